"""Specs: frozen values that describe handles and tasks. Each has one JSON form, from which keys are computed.

Task files contain the specs of tasks. A spec refers to a plugin by its identity, as `Plugin.identity` returns it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Identity: TypeAlias = dict[str, Any]
"""A plugin's name, version and options as JSON, and further fields for some kinds of plugins."""

StreamName: TypeAlias = tuple[str | int, ...]
"""The name of a random stream (see `harness.streams`)."""


class Spec(BaseModel):
    """A frozen value with a JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the value's JSON. Equal values have equal JSON."""
        return self.model_dump(by_alias=True)


class WeightsLocation(Spec):
    """Where the store keeps the weights of one network: the key of an object, and the name of a part of it."""

    object: str
    part: str


class SettingSpec(Spec):
    """A data set, an architecture and a recipe. `dataset` includes the data's fingerprint."""

    kind: Literal["setting"] = "setting"
    format: int
    dataset: Identity
    architecture: Identity
    recipe: dict[str, Any]


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


class CheckpointSpec(Spec):
    """The key of a trajectory, and an epoch."""

    kind: Literal["checkpoint"] = "checkpoint"
    trajectory: str
    epoch: int


class DerivationSpec(Spec):
    """Everything that the outputs of a derivation are a function of. `setting` and `parents` are keys."""

    kind: Literal["derive"] = "derive"
    format: int
    setting: str
    derivation: Identity
    parents: tuple[str, ...]
    stream: StreamName


class DerivedSpec(Spec):
    """One output of a derivation: the key of the object with all outputs, and an index."""

    kind: Literal["derived"] = "derived"
    task: str
    output: int


class TrainingStart(Spec):
    """The epoch and the weights that a training task starts from; without `object`, from initialization.

    `own` is True if the object is a checkpoint of the same trajectory. Then its training history is continued. Its optimizer
    state is continued in any case, unless the object is of another trajectory and the spec says `fresh_optimizer`.
    """

    epoch: int
    object: str | None = None
    part: str | None = None
    own: bool = False


class TeacherSpec(Spec):
    """The location of a teacher's weights, and the teacher's setting."""

    object: str
    part: str
    setting: SettingSpec


class CheckSpec(Spec):
    """Try a setting and an objective on a few images before the first training. `teacher` is the teacher's setting."""

    kind: Literal["check"] = "check"
    format: int
    setting: SettingSpec
    objective: Identity
    teacher: SettingSpec | None


class TrainSpec(Spec):
    """Train a trajectory from `start` up to the end of `epoch`."""

    kind: Literal["train"] = "train"
    setting: SettingSpec
    trajectory: TrajectorySpec
    trajectory_key: str
    epoch: int
    start: TrainingStart = Field(alias="from")
    teacher: TeacherSpec | None


class DeriveSpec(Spec):
    """Compute all outputs of a derivation from the parents' weights."""

    kind: Literal["derive"] = "derive"
    format: int
    setting: SettingSpec
    derivation: Identity
    parents: tuple[str, ...]
    stream: StreamName
    parent_locations: tuple[WeightsLocation, ...]


class PredictSpec(Spec):
    """Compute a network's logits on the test split. The task's key is the hash of `identity`."""

    kind: Literal["predict"] = "predict"
    setting: SettingSpec
    weights: str
    location: WeightsLocation
    identity: dict[str, Any]


class MeasureSpec(Spec):
    """Measure an ensemble with a metric. The task's key is the hash of `identity`."""

    kind: Literal["measure"] = "measure"
    setting: SettingSpec
    metric: Identity
    seed: int
    members: tuple[WeightsLocation, ...]
    predictions: tuple[str, ...]
    identity: dict[str, Any]


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
