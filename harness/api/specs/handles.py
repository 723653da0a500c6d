"""Specs of handles: everything that a trajectory, a checkpoint or derived weights are a function of.

A key is the hash of such a spec's JSON. Other handles enter it by their keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.api.specs.spec import Identity, Spec, StreamName


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
