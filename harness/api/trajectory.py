"""Handles: trajectories and their checkpoints. Those of derived weights are in `harness.api.derived_weights`.

A handle is a value that names a computation. It can be created, compared, hashed and forked before anything is computed:
the weights θ(epoch) are a function of the trajectory. Nothing in this module computes or trains.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, get_args

from harness.api.interfaces import Objective
from harness.api.moments import Moments
from harness.api.options import options_json
from harness.api.recipe import Recipe
from harness.api.scalars import integer, stream_name, truth
from harness.api.schedules import AnySchedule, Constant, Schedule, WarmupCosine, schedule_json
from harness.api.setting import ContentAddressed, Setting
from harness.api.specs import CheckpointSpec, TrajectorySpec, WeightsLocation
from harness.api.task import FORMAT
from harness.streams import Name


class Weights(ContentAddressed):
    """A handle of the weights of one network: a `Checkpoint`, `JointCheckpoint` or `DerivedWeights`.

    Plugins cannot add other kinds.
    """

    setting: Setting
    epoch: int
    """The epochs of training behind the weights, counted from initialization."""
    origin: Trajectory
    """The trajectory that a fork inherits from."""
    has_optimizer_state: ClassVar[bool] = True
    """Whether the weights are stored with an optimizer state, which a fork continues."""

    @property
    @abstractmethod
    def location(self) -> WeightsLocation:
        """Where the store keeps the weights."""

    def fork(
        self,
        *,
        order: int | None = None,
        objective: Objective | None = None,
        teacher: Weights | None = None,
        schedule: Schedule | None = None,
        recipe: Recipe | None = None,
        fresh_optimizer: bool = False,
        moments: Moments | None = None,
    ) -> Trajectory:
        """Return a trajectory that continues from these weights with the given changes.

        By default everything is inherited: order of batches, objective, teacher, recipe, optimizer state and the rest of the
        schedule. A fork without a change is the trajectory itself. Derived weights have no optimizer state; their forks
        inherit the rest from the trajectory of the first parent.

        `order` is the index of the member whose order of batches the fork uses from here on. `objective` and `teacher`
        replace the current ones; a new objective does not inherit the current teacher. `schedule` begins here and may run
        beyond T (`harness.schedules`). `recipe` replaces the recipe from here on; a schedule given earlier is kept.
        `fresh_optimizer` drops the optimizer state, such as momentum. `moments` are collected by the fork; they are not
        inherited. Raise `ValueError` for a value of a wrong type
        or out of range, and if the objective needs a teacher and has none, or has one and needs none.
        """
        own = self.origin
        fork = Trajectory(
            order=own.order if order is None else (*own.order[:-1], integer(order, "order")),
            setting=own.setting if recipe is None else own.setting.with_recipe(recipe),
            objective=own.objective if objective is None else objective,
            teacher=own.teacher if objective is None and teacher is None else teacher,
            start=self,
            schedule=own.schedule if schedule is None else schedule,
            schedule_start=own.schedule_start if schedule is None else self.epoch,
            fresh_optimizer=fresh_optimizer,
            moments=moments,
        )
        if isinstance(self, Checkpoint) and _continues_unchanged(own, fork):
            return own
        return fork


@dataclass(frozen=True, eq=False)
class Trajectory(ContentAddressed):
    """One deterministic training: the weights θ(epoch) as a function of the epoch.

    Create one with `Cell.trajectory` or `Weights.fork`.

    It starts from initialization (`init` is the name of the random stream) or from other weights (`start`). `order` is
    the name of the random stream for the order of batches, augmentation and dropout. `objective` is minimized;
    `teacher` is the handle of the teacher's weights if the objective needs one.

    The learning rate follows the recipe's schedule, linear warm-up and cosine over T epochs, or `schedule`, which begins at
    epoch `schedule_start`. `fresh_optimizer` starts without the optimizer state of `start`. `moments` are collected meanwhile
    (`harness.MomentWeights`).
    """

    setting: Setting
    objective: Objective
    order: Name
    teacher: Weights | None = None
    init: Name | None = None
    start: Weights | None = None
    schedule: Schedule | None = None
    schedule_start: int = 0
    fresh_optimizer: bool = False
    moments: Moments | None = None

    def __post_init__(self) -> None:
        self._check_teacher()
        self._set("objective", self.objective.simplified())
        if not self.objective.needs_teacher:
            self._set("teacher", None)
        self._set("order", stream_name(self.order))
        if self.init is not None:
            self._set("init", stream_name(self.init))
        self._check_schedule()
        fresh = truth(self.fresh_optimizer, "fresh_optimizer")
        self._set("fresh_optimizer", fresh or (self.start is not None and not self.start.has_optimizer_state))

    def _set(self, field: str, value: Any) -> None:
        """Set a field of the frozen value during its construction."""
        object.__setattr__(self, field, value)

    def _check_schedule(self) -> None:
        """Refuse other values than schedules; give equal trainings equal fields."""
        recipe = self.setting.recipe
        begins_with_training = isinstance(self.schedule, WarmupCosine) and self.schedule_start == 0
        if begins_with_training and self.schedule == WarmupCosine.of(recipe, recipe.epochs):
            self._set("schedule", None)  # the recipe's own, spelled out
        if self.schedule is None or isinstance(self.schedule, Constant):
            self._set("schedule_start", 0)  # it does not matter when these began
        if self.schedule is not None and not isinstance(self.schedule, get_args(get_args(AnySchedule)[0])):
            kinds = "Constant, WarmupCosine, Linear, CyclicCosine, Triangular"
            raise ValueError(f"schedule is {self.schedule!r:.60}; one of harness.schedules: {kinds}")
        self._set("schedule_start", integer(self.schedule_start, "schedule_start"))

    def _check_teacher(self) -> None:
        teacher = self.teacher
        if teacher is None and self.objective.needs_teacher:
            raise ValueError(f"objective '{self.objective.full_name}' needs a teacher")
        if teacher is not None and not self.objective.needs_teacher:
            raise ValueError(f"objective '{self.objective.full_name}' takes no teacher")
        if teacher is not None and teacher.setting is not self.setting:
            expected, own = teacher.setting.dataset, self.setting.dataset
            if (expected.shape, expected.num_classes) != (own.shape, own.num_classes):
                raise ValueError(
                    f"the teacher sees images {expected.shape} of {expected.num_classes} classes, "
                    f"its student {own.shape} of {own.num_classes}; they must agree"
                )

    @property
    def start_epoch(self) -> int:
        """The epoch of `start`, or 0 if the trajectory starts from initialization."""
        return 0 if self.start is None else self.start.epoch

    @property
    def last_epoch(self) -> int | None:
        """The epoch at which the schedule ends; None if it has no end."""
        if self.schedule is None:
            return self.setting.recipe.epochs
        if self.schedule.length is None:
            return None
        return self.schedule_start + self.schedule.length

    @property
    def starts(self) -> tuple[Weights, ...]:
        """The weights that the training starts from; empty if it starts from initialization."""
        return () if self.start is None else (self.start,)

    @property
    def teachers(self) -> tuple[Weights, ...]:
        """The teacher, or nothing."""
        return () if self.teacher is None else (self.teacher,)

    @property
    def epoch_cost(self) -> float:
        """The cost of an epoch, in epochs of plain training."""
        return self.objective.epoch_cost

    @cached_property
    def spec(self) -> TrajectorySpec:
        """Everything that the training is a function of. Setting, teacher and start are given by their keys."""
        return TrajectorySpec(
            format=FORMAT,
            setting=self.setting.key,
            objective=self.objective.identity,
            teacher=None if self.teacher is None else self.teacher.key,
            order=self.order,
            init=self.init,
            start=None if self.start is None else self.start.key,
            start_epoch=self.start_epoch,
            schedule=None if self.schedule is None else schedule_json(self.schedule),
            schedule_start=self.schedule_start,
            fresh_optimizer=self.fresh_optimizer,
            moments=None if self.moments is None else options_json(self.moments),
        )

    def at(self, epoch: int) -> Weights:
        """Return the handle of θ(epoch). Epochs are counted from initialization, also after a fork.

        At `start_epoch` of a fork these are the weights `start`. Raise `ValueError` if the epoch is not an integer, or
        if it is below `start_epoch` or above `last_epoch`.
        """
        epoch = integer(epoch, "epoch")
        last = self.last_epoch
        if epoch < self.start_epoch or (last is not None and epoch > last):
            limit = "any" if last is None else str(last)
            advice = ""
            if epoch > self.start_epoch:
                advice = ", where its schedule ends; to train longer, give the training or the fork a `schedule`"
            raise ValueError(f"epoch {epoch} is not on this trajectory; {self.start_epoch} to {limit}{advice}")
        if self.start is not None and epoch == self.start_epoch:
            return self.start
        return Checkpoint(self, epoch)


@dataclass(frozen=True, eq=False)
class Checkpoint(Weights):
    """The weights of a trajectory at the end of an epoch; epoch 0 is the initialization."""

    trajectory: Trajectory
    epoch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "epoch", integer(self.epoch, "epoch"))

    @property
    def setting(self) -> Setting:  # type: ignore[override]
        """The trajectory's setting."""
        return self.trajectory.setting

    @property
    def origin(self) -> Trajectory:  # type: ignore[override]
        """The trajectory itself."""
        return self.trajectory

    @property
    def spec(self) -> CheckpointSpec:
        """The key of the trajectory, and the epoch."""
        return CheckpointSpec(trajectory=self.trajectory.key, epoch=self.epoch)

    @cached_property
    def location(self) -> WeightsLocation:
        """One object per checkpoint."""
        return WeightsLocation(object=self.key, part="weights")


def _continues_unchanged(own: Trajectory, fork: Trajectory) -> bool:
    """Return whether a fork is the same training as the trajectory it was forked from."""
    return (
        fork.order == own.order
        and fork.setting == own.setting
        and fork.schedule == own.schedule
        and fork.schedule_start == own.schedule_start
        and not fork.fresh_optimizer
        and fork.moments == own.moments
        and fork.objective.identity == own.objective.identity
        and fork.teacher == own.teacher
    )
