"""Handles: trajectories, checkpoints on them, weights derived from weights. Values with keys; nothing here computes or trains.

θ(epoch) is a function of its trajectory, so a handle can be made, compared, forked and hashed before any training step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.api.interfaces import Derivation, Objective
from harness.api.scalars import integer, number, truth
from harness.api.setting import ContentAddressed, Setting
from harness.api.specs import CheckpointSpec, DerivationSpec, DerivedSpec, TrajectorySpec, WeightsLocation
from harness.api.task import FORMAT, key_of
from harness.streams import Name


class Weights(ContentAddressed):
    """A handle to the weights of one network."""

    setting: Setting

    @property
    @abstractmethod
    def location(self) -> WeightsLocation:
        """Where the store keeps them."""


@dataclass(frozen=True, eq=False)
class Trajectory(ContentAddressed):
    """One deterministic training.

    It starts from initialization (`init` names the stream) or from a checkpoint (`start`). The schedule is the recipe's warm-up
    and cosine over T epochs. `constant_learning_rate` replaces it by a constant; `restart_epoch` fits a new warm-up and cosine
    into the epochs from there to T. `fresh_optimizer` drops the momentum of the start checkpoint. `teacher` is what the
    objective learns from, if it needs one.
    """

    setting: Setting
    objective: Objective
    order: Name
    teacher: Weights | None = None
    init: Name | None = None
    start: Checkpoint | None = None
    constant_learning_rate: float | None = None
    restart_epoch: int | None = None
    fresh_optimizer: bool = False

    def __post_init__(self) -> None:
        self._check_teacher()
        self._set("objective", self.objective.simplified())
        if not self.objective.needs_teacher:
            self._set("teacher", None)
        self._set("order", _stream_name(self.order))
        if self.init is not None:
            self._set("init", _stream_name(self.init))
        if self.constant_learning_rate is not None:
            self._set("constant_learning_rate", number(self.constant_learning_rate, "learning_rate"))
        if self.restart_epoch is not None:
            self._set("restart_epoch", integer(self.restart_epoch, "restart_epoch"))
        self._set("fresh_optimizer", truth(self.fresh_optimizer, "fresh_optimizer"))

    def _set(self, field: str, value: Any) -> None:
        """Replace a field while the value is made; afterwards it is frozen."""
        object.__setattr__(self, field, value)

    def _check_teacher(self) -> None:
        teacher = self.teacher
        if (teacher is not None) != self.objective.needs_teacher:
            demand = "takes no" if teacher is not None else "needs a"
            raise ValueError(f"objective '{self.objective.full_name}' {demand} teacher")
        if teacher is not None and teacher.setting is not self.setting:
            theirs, ours = teacher.setting.dataset, self.setting.dataset
            if (theirs.shape, theirs.num_classes) != (ours.shape, ours.num_classes):
                raise ValueError(
                    f"the teacher sees images {theirs.shape} of {theirs.num_classes} classes, "
                    f"its student {ours.shape} of {ours.num_classes}; they must agree"
                )

    @property
    def start_epoch(self) -> int:
        """The epoch of the checkpoint it was forked from; 0 from initialization."""
        return 0 if self.start is None else self.start.epoch

    @cached_property
    def spec(self) -> TrajectorySpec:
        """What the training is a function of; setting, teacher and start by their keys."""
        return TrajectorySpec(
            format=FORMAT,
            setting=self.setting.key,
            objective=self.objective.identity,
            teacher=None if self.teacher is None else self.teacher.key,
            order=self.order,
            init=self.init,
            start=None if self.start is None else self.start.key,
            start_epoch=self.start_epoch,
            constant_learning_rate=self.constant_learning_rate,
            restart_epoch=self.restart_epoch,
            fresh_optimizer=self.fresh_optimizer,
        )

    def at(self, epoch: int) -> Checkpoint:
        """Return the handle of θ(epoch), epochs counted from initialization.

        At the epoch of a fork this is the checkpoint that was forked. Raise `ValueError` before that epoch, beyond T on a
        cosine, or for an epoch that is not an integer.
        """
        epoch = integer(epoch, "epoch")
        last = None if self.constant_learning_rate is not None else self.setting.recipe.epochs
        if epoch < self.start_epoch or (last is not None and epoch > last):
            allowed = f"{self.start_epoch} to {'any' if last is None else last}"
            raise ValueError(f"epoch {epoch} is not on this trajectory; {allowed}")
        if self.start is not None and epoch == self.start_epoch:
            return self.start
        return Checkpoint(self, epoch)


@dataclass(frozen=True, eq=False)
class Checkpoint(Weights):
    """A trajectory at an epoch."""

    trajectory: Trajectory
    epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "epoch", integer(self.epoch, "epoch"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The trajectory's setting."""
        return self.trajectory.setting

    @property
    def spec(self) -> CheckpointSpec:
        """The trajectory, by its key, and the epoch."""
        return CheckpointSpec(trajectory=self.trajectory.key, epoch=self.epoch)

    @cached_property
    def location(self) -> WeightsLocation:
        """A checkpoint is an object of its own."""
        return WeightsLocation(object=self.key, part="weights")

    def fork(
        self,
        *,
        order: int | None = None,
        objective: Objective | None = None,
        teacher: Weights | None = None,
        learning_rate: float | None = None,
        restart_schedule: bool = False,
        fresh_optimizer: bool = False,
    ) -> Trajectory:
        """Return the trajectory that continues from here with another order of batches, objective or learning rate.

        `order` is the member whose order stream it follows; `learning_rate` stays constant from here on. What is not given
        stays: momentum and the remaining schedule too, and the teacher unless another objective is given. A fork that changes
        nothing is the trajectory itself.
        """
        own = self.trajectory
        if teacher is None and objective is None:
            teacher = own.teacher
        fork = replace(
            own,
            teacher=teacher,
            order=own.order if order is None else (*own.order[:-1], integer(order, "order")),
            objective=own.objective if objective is None else objective,
            constant_learning_rate=own.constant_learning_rate if learning_rate is None else learning_rate,
            restart_epoch=self.epoch if truth(restart_schedule, "restart_schedule") else own.restart_epoch,
            fresh_optimizer=fresh_optimizer,
            init=None,
            start=self,
        )
        return own if _continues_unchanged(own, fork) else fork


def _continues_unchanged(own: Trajectory, fork: Trajectory) -> bool:
    """Return whether a fork trains exactly as the trajectory that it was forked from."""
    return (
        fork.order == own.order
        and fork.constant_learning_rate == own.constant_learning_rate
        and fork.restart_epoch == own.restart_epoch
        and not fork.fresh_optimizer
        and fork.objective.identity == own.objective.identity
        and fork.teacher == own.teacher
    )


@dataclass(frozen=True, eq=False)
class DerivedWeights(Weights):
    """Weights computed from other weights: one of the outputs of a derivation."""

    derivation: Derivation
    parents: tuple[Weights, ...]
    stream: Name
    output: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stream", _stream_name(self.stream))
        object.__setattr__(self, "output", integer(self.output, "output"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The first parent's setting."""
        return self.parents[0].setting

    @cached_property
    def task_spec(self) -> DerivationSpec:
        """What all outputs of the derivation are a function of."""
        return DerivationSpec(
            format=FORMAT,
            setting=self.setting.key,
            derivation=self.derivation.identity,
            parents=tuple(parent.key for parent in self.parents),
            stream=self.stream,
        )

    @cached_property
    def task_key(self) -> str:
        """The key of the object that holds all outputs."""
        return key_of(self.task_spec.to_json())

    @property
    def spec(self) -> DerivedSpec:
        """Which output of which derivation this is."""
        return DerivedSpec(task=self.task_key, output=self.output)

    @cached_property
    def location(self) -> WeightsLocation:
        """A part of the derivation's object."""
        return WeightsLocation(object=self.task_key, part=f"weights-{self.output}")


def _stream_name(parts: Sequence[Any]) -> Name:
    """Return a stream's name, made of texts and integers."""
    name: list[str | int] = []
    for part in parts:
        name.append(str(part) if isinstance(part, str) else integer(part, "a part of a stream's name"))
    return tuple(name)
