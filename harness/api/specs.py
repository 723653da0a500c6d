"""Specs: frozen values that describe handles and tasks. Each has one JSON form, from which keys are computed.

Task files contain the specs of tasks. A spec refers to a plugin by its identity, as `Plugin.identity` returns it.

A plan holds some specs per task. They are dataclasses with slots, which take a quarter of the memory of pydantic models and a
fraction of their time. pydantic validates what is read from JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

Identity: TypeAlias = dict[str, Any]
"""A plugin's name, version and options as JSON, and further fields for some kinds of plugins."""

StreamName: TypeAlias = tuple[str | int, ...]
"""The name of a random stream (see `harness.streams`)."""


class Spec:
    """A frozen value with a JSON form. Subclasses are dataclasses with slots and at least two fields."""

    __slots__: tuple[str, ...] = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # of what is read from JSON
    renamed: ClassVar[dict[str, str]] = {}
    """The names in JSON of fields that are named otherwise there."""
    nested: ClassVar[tuple[str, ...]] = ()
    """The names in JSON of fields that hold specs or tuples of specs."""
    _names: ClassVar[tuple[str, ...]]
    _values: ClassVar[attrgetter[tuple[Any, ...]]]

    def __init_subclass__(cls) -> None:
        """Note the fields, once the dataclass has given them slots."""
        if cls.__slots__:
            cls._names = tuple(cls.renamed.get(name, name) for name in cls.__slots__)
            cls._values = attrgetter(*cls.__slots__)

    def to_json(self) -> dict[str, Any]:
        """Return the value's JSON. Equal values have equal JSON. Do not change what is nested in it: the value shares it."""
        written: dict[str, Any] = dict(zip(self._names, self._values(self)))
        for name in self.nested:
            written[name] = _nested_json(written[name])
        return written


def _nested_json(value: Spec | tuple[Spec, ...] | None) -> Any:
    if value is None:
        return None
    if isinstance(value, Spec):
        return value.to_json()
    return tuple(item.to_json() for item in value)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsLocation(Spec):
    """Where the store keeps the weights of one network: the key of an object, and the name of a part of it."""

    object: str
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec(Spec):
    """A data set, an architecture and a recipe. `dataset` includes the data's fingerprint."""

    kind: Literal["setting"] = "setting"
    format: int
    dataset: Identity
    architecture: Identity
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectorySpec(Spec):
    """One deterministic training. `setting`, `teacher` and the checkpoint `start` are keys."""

    kind: Literal["trajectory"] = "trajectory"
    format: int
    setting: str
    objective: Identity
    teacher: str | None
    order: StreamName
    init: StreamName | None
    start: str | None
    start_epoch: int
    schedule: dict[str, Any] | None
    schedule_start: int
    fresh_optimizer: bool
    moments: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the value's JSON. Trainings without moments have the JSON and the keys of before there were any."""
        written = super(TrajectorySpec, self).to_json()
        if self.moments is None:
            del written["moments"]
        return written


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSpec(Spec):
    """The key of a trajectory, and an epoch."""

    kind: Literal["checkpoint"] = "checkpoint"
    trajectory: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentSpec(Spec):
    """One moment of a training's weights: the key of a checkpoint, and the name of a part of its object."""

    kind: Literal["moment"] = "moment"
    checkpoint: str
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTrajectorySpec(Spec):
    """Trainings that step together with a coupling. `members` are the keys of their trajectories without it."""

    kind: Literal["joint_trajectory"] = "joint_trajectory"
    format: int
    members: tuple[str, ...]
    coupling: Identity
    stream: StreamName


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCheckpointSpec(Spec):
    """The key of a joint trajectory, and an epoch: all members at that epoch."""

    kind: Literal["joint_checkpoint"] = "joint_checkpoint"
    trajectory: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JointMemberSpec(Spec):
    """One member of a joint checkpoint: the key of the object with all members, and an index."""

    kind: Literal["joint_member"] = "joint_member"
    task: str
    member: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivationSpec(Spec):
    """Everything that the outputs of a derivation are a function of. `setting` and `parents` are keys."""

    kind: Literal["derive"] = "derive"
    format: int
    setting: str
    derivation: Identity
    parents: tuple[str, ...]
    stream: StreamName


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSpec(Spec):
    """One output of a derivation: the key of the object with all outputs, and an index."""

    kind: Literal["derived"] = "derived"
    task: str
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStart(Spec):
    """The epoch and the weights that a training task starts from; without `object`, from initialization.

    `own` is True if the object is a checkpoint of the same trajectory. Then its training history is continued. Its optimizer
    state is continued in any case, unless the object is of another trajectory and the spec says `fresh_optimizer`.
    """

    epoch: int
    object: str | None = None
    part: str | None = None
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec(Spec):
    """The location of a teacher's weights, and the teacher's setting."""

    nested = ("setting",)

    object: str
    part: str
    setting: SettingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec(Spec):
    """A split of an evaluation set, and the fingerprint of its images."""

    evaluation_set: Identity
    split: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec(Spec):
    """Try a setting before the first training: an objective on a few images, or whether a derivation is possible.

    It has either an `objective` or a `derivation`. `teacher` is the teacher's setting. `evaluation_splits` are splits to load:
    one of each evaluation set that the setting's networks will be evaluated on. `sources` are those of the derivation.
    """

    nested = ("setting", "teacher", "evaluation_splits")

    kind: Literal["check"] = "check"
    format: int
    setting: SettingSpec
    objective: Identity | None
    teacher: SettingSpec | None
    evaluation_splits: tuple[EvaluationSpec, ...] = ()
    derivation: Identity | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledMemberSpec(Spec):
    """One of the trainings that step together: its trajectory without the coupling, its start, and its teacher."""

    nested = ("trajectory", "start", "teacher")

    trajectory: TrajectorySpec
    start: TrainingStart
    teacher: TeacherSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledSpec(Spec):
    """What ties several trainings. `epoch_cost` is the cost of an epoch of all members, in epochs of one."""

    nested = ("members",)

    coupling: Identity
    stream: StreamName
    epoch_cost: float
    members: tuple[CoupledMemberSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec(Spec):
    """Train a trajectory from `start` up to the end of `epoch`.

    With `coupled`, all its members are trained at once. `trajectory_key` is then that of the joint trajectory; `trajectory` and
    `teacher` are those of the first member; `start` names an object only if it is one of the joint trajectory itself.
    """

    renamed = {"start": "from"}
    nested = ("setting", "trajectory", "from", "teacher", "coupled")
    kind: Literal["train"] = "train"
    setting: SettingSpec
    trajectory: TrajectorySpec
    trajectory_key: str
    epoch: int
    start: Annotated[TrainingStart, Field(alias="from")]
    teacher: TeacherSpec | None
    coupled: CoupledSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveSpec(Spec):
    """Compute all outputs of a derivation from the parents' weights. `sources` are paths of files, which are in no key."""

    nested = ("setting", "parent_locations")

    kind: Literal["derive"] = "derive"
    format: int
    setting: SettingSpec
    derivation: Identity
    parents: tuple[str, ...]
    stream: StreamName
    parent_locations: tuple[WeightsLocation, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSpec(Spec):
    """Compute a network's logits on the test split, or on a split of an evaluation set.

    The task's key is the hash of `identity`.
    """

    nested = ("setting", "location", "evaluation")

    kind: Literal["predict"] = "predict"
    setting: SettingSpec
    weights: str
    location: WeightsLocation
    identity: dict[str, Any]
    evaluation: EvaluationSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPredictions(Spec):
    """Keys of the members' predictions on a split of the evaluation set that an option of the metric names."""

    option: str
    split: str
    predictions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec(Spec):
    """Measure an ensemble with a metric. The task's key is the hash of `identity`."""

    nested = ("setting", "members", "evaluation_splits")

    kind: Literal["measure"] = "measure"
    setting: SettingSpec
    metric: Identity
    seed: int
    members: tuple[WeightsLocation, ...]
    predictions: tuple[str, ...]
    identity: dict[str, Any]
    evaluation_splits: tuple[EvaluationPredictions, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec(Spec):
    """Tell what a worker sees, then wait for `seconds`. No benchmark has such a task: it tests an engine.

    `token` makes the key unique. `lease` is a key; the worker tells whether it can get the lease on it.
    """

    kind: Literal["probe"] = "probe"
    token: str
    lease: str
    seconds: float = 0.0


TaskSpec: TypeAlias = CheckSpec | TrainSpec | DeriveSpec | PredictSpec | MeasureSpec | ProbeSpec
Kind: TypeAlias = Literal["check", "train", "derive", "predict", "measure", "probe"]

_TASK_SPEC: TypeAdapter[TaskSpec] = TypeAdapter(Annotated[TaskSpec, Field(discriminator="kind")])


def task_spec_from_json(value: Any) -> TaskSpec:
    """Return a task spec from its JSON; raise `ValueError` if the JSON is no task spec."""
    return _TASK_SPEC.validate_python(value)
