"""Handles of networks that train together: joint trajectories and their checkpoints. Nothing in this module trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.api.coupling import Coupling
from harness.api.recipe import Recipe
from harness.api.scalars import integer, stream_name
from harness.api.setting import ContentAddressed, Setting
from harness.api.specs import JointCheckpointSpec, JointMemberSpec, JointTrajectorySpec, WeightsLocation
from harness.api.task import FORMAT, key_of
from harness.api.trajectory import Trajectory, Weights
from harness.streams import Name


@dataclass(frozen=True, eq=False)
class JointTrajectory(ContentAddressed):
    """M trainings that take their steps at the same time, tied by a coupling. Create it with `Cell.couple`.

    `members` are the trainings as they would be without the coupling. They have one setting, schedule and kind of objective;
    their recipes may differ in `Recipe.own_fields`, unless the coupling trains all members on one batch.
    The coupling begins at the latest of their start epochs. `stream` is the name of its random stream. A training that nothing
    couples is that of its member.
    """

    members: tuple[Trajectory, ...]
    coupling: Coupling
    stream: Name

    def __post_init__(self) -> None:
        _require_trajectories(self.members)
        for index, member in enumerate(self.members):
            _require_fit(index, member, self.members[0])
        if self.coupling.mixes and self.coupling.shares_batch:
            raise ValueError(f"coupling '{self.coupling.full_name}' has both mixes and shares_batch; one of them at most")
        if self.coupling.mixes or self.coupling.shares_batch:
            _require_one_batch(self.members, self.coupling)
        self.coupling.check(len(self.members))
        object.__setattr__(self, "members", tuple(self.members))
        object.__setattr__(self, "stream", stream_name(self.stream))

    @property
    def setting(self) -> Setting:
        """The setting of the first member. Those of the others differ in the recipe at most."""
        return self.members[0].setting

    @property
    def start_epoch(self) -> int:
        """The epoch at which the coupling begins."""
        return max(member.start_epoch for member in self.members)

    @cached_property
    def begins(self) -> tuple[Weights | None, ...]:
        """The weights of each member when the coupling begins; None at initialization."""
        epoch = self.start_epoch
        return tuple(member.at(epoch) if epoch else member.start for member in self.members)

    @property
    def starts(self) -> tuple[Weights, ...]:
        """The weights with which the coupling begins, without initializations."""
        return tuple(weights for weights in self.begins if weights is not None)

    @property
    def teachers(self) -> tuple[Weights, ...]:
        """The teachers of members that have one."""
        return tuple(teacher for member in self.members for teacher in member.teachers)

    @property
    def epoch_cost(self) -> float:
        """The cost of an epoch of all members, in epochs of plain training."""
        return self.coupling.epoch_cost(len(self.members)) * self.members[0].epoch_cost

    @cached_property
    def spec(self) -> JointTrajectorySpec:
        """The keys of the members, and the coupling."""
        return JointTrajectorySpec(
            format=FORMAT,
            members=tuple(member.key for member in self.members),
            coupling=self.coupling.identity,
            stream=self.stream,
        )

    def at(self, epoch: int) -> tuple[Weights, ...]:
        """Return the handles of the members' weights at the end of an epoch, which is counted from initialization.

        At `start_epoch` these are the members' own. Raise `ValueError` for an epoch that the members do not reach.
        """
        epoch = integer(epoch, "epoch")
        if epoch < self.start_epoch:
            raise ValueError(f"epoch {epoch} is before the coupling, which begins at epoch {self.start_epoch}")
        uncoupled = tuple(member.at(epoch) for member in self.members)
        coupling = self.coupling.simplified(len(self.members))
        if coupling is None or epoch == self.start_epoch:
            return uncoupled
        joint = self
        if coupling is not self.coupling:
            joint = JointTrajectory(self.members, coupling, self.stream)
        return tuple(JointCheckpoint(joint, epoch, index) for index in range(len(self.members)))


@dataclass(frozen=True, eq=False)
class JointCheckpoint(Weights):
    """The weights of one member of a joint trajectory at the end of an epoch."""

    trajectory: JointTrajectory
    epoch: int
    member: int

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The setting of the member."""
        return self.origin.setting

    @property
    def origin(self) -> Trajectory:  # type: ignore[override]
        """The member's own training, as it would be without the coupling."""
        return self.trajectory.members[self.member]

    @cached_property
    def task_key(self) -> str:
        """The key of the object that holds all members at this epoch."""
        return key_of(JointCheckpointSpec(trajectory=self.trajectory.key, epoch=self.epoch).to_json())

    @property
    def spec(self) -> JointMemberSpec:
        """The key of the object with all members, and the member's index."""
        return JointMemberSpec(task=self.task_key, member=self.member)

    @cached_property
    def location(self) -> WeightsLocation:
        """One part of the joint object per member."""
        return WeightsLocation(object=self.task_key, part=f"weights-{self.member}")


def _require_trajectories(members: Sequence[Trajectory]) -> None:
    if not members:
        raise ValueError("a coupling needs at least one training; none is given")
    for index, member in enumerate(members):
        if not isinstance(member, Trajectory):
            raise ValueError(f"member {index} is {member!r:.60}; a coupling ties trainings, such as cell.trajectory(member=0)")


def _require_fit(index: int, member: Trajectory, first: Trajectory) -> None:
    """Raise `ValueError` unless a member has what the first one has: its networks must be alike, and step at the same time."""
    own, other = member.setting, first.setting
    if (own.dataset.identity, own.architecture.identity) != (other.dataset.identity, other.architecture.identity):
        names = f"member {index} is {_network_name(member)}, member 0 is {_network_name(first)}"
        raise ValueError(f"{names}; a coupling needs networks of one shape")
    for name, value in own.recipe:
        if name not in Recipe.own_fields and value != getattr(other.recipe, name):
            allowed = ", ".join(Recipe.own_fields)
            raise ValueError(f"member {index} has another {name} than member 0; members of a coupling may differ in {allowed}")
    if (member.schedule, member.schedule_start) != (first.schedule, first.schedule_start):
        raise ValueError(f"member {index} has another schedule than member 0; a coupling needs one schedule")
    if member.moments is not None:
        raise ValueError(f"member {index} collects moments; a coupling takes trainings without")
    if member.objective.name != first.objective.name:
        names = f"member {index} minimizes {member.objective.full_name}, member 0 {first.objective.full_name}"
        raise ValueError(f"{names}; a coupling needs one kind of objective")


def _require_one_batch(members: Sequence[Trajectory], coupling: Coupling) -> None:
    """Raise `ValueError` unless all members have one recipe, order, objective and teacher: one batch trains all of them."""
    first = members[0]
    for index, member in enumerate(members):
        same = (member.setting, member.order, member.teacher) == (first.setting, first.order, first.teacher)
        if not (same and member.objective.identity == first.objective.identity):
            what = f"member {index} has another recipe, order, objective or teacher than member 0"
            raise ValueError(f"{what}; coupling '{coupling.full_name}' trains all members on one batch")


def _network_name(trajectory: Trajectory) -> str:
    setting = trajectory.setting
    options = setting.architecture.identity["options"]
    return f"{setting.architecture.full_name} {options} on {setting.dataset.full_name}"
