"""What tasks are told, as frozen values with one serialization each. Keys are computed from it, task files hold it.

Plugins stand in specs by their identities: name, version and options, as `Plugin.identity` returns them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Identity: TypeAlias = dict[str, Any]
"""A plugin's name, version and options as JSON, and what else its kind adds to them."""

StreamName: TypeAlias = tuple[str | int, ...]
"""The name of a random stream, see `harness.streams`."""


class Spec(BaseModel):
    """A frozen value that can be written as JSON and read back."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON. Equal values have equal JSON."""
        return self.model_dump(by_alias=True)


class WeightsLocation(Spec):
    """Where the store keeps the weights of one network: an object, by its key, and a part of it, by its name."""

    object: str
    part: str


class SettingSpec(Spec):
    """A data set, an architecture and a recipe. `dataset` holds the data's fingerprint, too."""

    kind: Literal["setting"] = "setting"
    format: int
    dataset: Identity
    architecture: Identity
    recipe: dict[str, Any]


class TrajectorySpec(Spec):
    """One deterministic training; setting, teacher and the checkpoint it starts from by their keys."""

    kind: Literal["trajectory"] = "trajectory"
    format: int
    setting: str
    objective: Identity
    teacher: str | None
    order: StreamName
    init: StreamName | None
    start: str | None
    start_epoch: int
    constant_learning_rate: float | None
    restart_epoch: int | None
    fresh_optimizer: bool


class CheckpointSpec(Spec):
    """A trajectory, by its key, at an epoch."""

    kind: Literal["checkpoint"] = "checkpoint"
    trajectory: str
    epoch: int


class DerivationSpec(Spec):
    """What all outputs of a derivation are a function of; setting and parents by their keys."""

    kind: Literal["derive"] = "derive"
    format: int
    setting: str
    derivation: Identity
    parents: tuple[str, ...]
    stream: StreamName


class DerivedSpec(Spec):
    """One output of a derivation, by the key of the object that holds them all."""

    kind: Literal["derived"] = "derived"
    task: str
    output: int


class TrainingStart(Spec):
    """Where a training task begins: at an epoch, with the weights of an object, or with initialized ones if there is none.

    `own` says whether the object is a checkpoint of the same trajectory; then its optimizer state and history are continued.
    """

    epoch: int
    object: str | None = None
    part: str | None = None
    own: bool = False


class TeacherSpec(Spec):
    """The weights and the setting of a teacher."""

    object: str
    part: str
    setting: SettingSpec


class CheckSpec(Spec):
    """Try a setting and an objective on a few images, before any training of them. `teacher` is the teacher's setting."""

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
    """Compute a network's logits on the test split. `identity` is what the task's key is computed from."""

    kind: Literal["predict"] = "predict"
    setting: SettingSpec
    weights: str
    location: WeightsLocation
    identity: dict[str, Any]


class MeasureSpec(Spec):
    """Measure an ensemble with a metric. `identity` is what the task's key is computed from."""

    kind: Literal["measure"] = "measure"
    setting: SettingSpec
    metric: Identity
    seed: int
    members: tuple[WeightsLocation, ...]
    predictions: tuple[str, ...]
    identity: dict[str, Any]


TaskSpec: TypeAlias = CheckSpec | TrainSpec | DeriveSpec | PredictSpec | MeasureSpec
Kind: TypeAlias = Literal["check", "train", "derive", "predict", "measure"]

_TASK_SPEC: TypeAdapter[TaskSpec] = TypeAdapter(Annotated[TaskSpec, Field(discriminator="kind")])


def task_spec_from_json(value: Any) -> TaskSpec:
    """Return the task spec that JSON describes; raise `ValueError` if it describes none."""
    return _TASK_SPEC.validate_python(value)
