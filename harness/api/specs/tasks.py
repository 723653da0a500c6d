"""Specs of tasks: what a worker needs to compute one, as task files contain it. A task's key leaves some of it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from harness.api.specs.handles import SettingSpec, TrajectorySpec, WeightsLocation
from harness.api.specs.spec import Identity, Spec, StreamName


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
    """One of the trainings that step together: its recipe, its trajectory without the coupling, its start, and its teacher."""

    nested = ("trajectory", "start", "teacher")

    recipe: dict[str, Any]
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
