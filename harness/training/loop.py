"""Trainings from one point of a trajectory to another, alone or as siblings. Knows nothing of files, methods or engines.

All randomness comes from the trajectory's order stream: the order of an epoch is a function of (stream, epoch), an image's
augmentation of (stream, epoch, image), dropout of (stream, epoch, step). A training that was cut anywhere and went on is
therefore the same training; on the CPU to the bit. So is one that went on in a group.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Objective
from harness.api.recipe import Recipe
from harness.errors import TaskFailed
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.streams import Name
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.cuda_graph import make_step_function
from harness.training.step import StepInputs, TrainState


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch looked like: mean training loss (nats) and accuracy (percent), on the augmented images, as trained.

    `seconds` are those of the whole group where siblings train together.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass
class Point:
    """A point of a trajectory: everything that its continuation is a function of. Tensors on the CPU, in plain layout.

    `step` counts from initialization; `optimizer_steps` since the optimizer's memory was empty. The sums belong to the epoch
    that is under way.
    """

    step: int
    weights: StateDict
    memory: dict[str, StateDict] = field(default_factory=dict)
    optimizer_steps: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    history: tuple[EpochRecord, ...] = ()


@dataclass(frozen=True)
class Rules:
    """How a trajectory moves: recipe, objective, learning rate of each step, order stream."""

    recipe: Recipe
    objective: Objective
    rate: Callable[[int], float]
    order: Name


AfterEpoch = Callable[[EpochRecord, Callable[[], Point]], None]
"""Gets an epoch's record and a function that takes a copy of the state."""


def _ignore(record: EpochRecord, point: Callable[[], Point]) -> None:
    pass


def _never() -> bool:
    return False


class Trainer:
    """Moves one network along its trajectory.

    `augmenter` holds the training images on the device and `labels` (n,) lie beside them; `teacher`, if the objective wants
    one, is a network in evaluation mode that sees the same augmented views.
    """

    def __init__(
        self, network: FlatNetwork, augmenter: Augmenter, labels: Tensor, rules: Rules, teacher: FlatNetwork | None = None
    ) -> None:
        self.network, self.augmenter, self.labels, self.rules, self.teacher = network, augmenter, labels, rules, teacher
        self.batch = min(rules.recipe.batch_size, len(labels))
        self.steps_per_epoch = rules.recipe.steps_per_epoch(len(labels))

    def run(
        self,
        start: Point,
        until: int,
        *,
        stopping: Callable[[], bool] = _never,
        after_epoch: AfterEpoch = _ignore,
        watch: Stopwatch | None = None,
    ) -> Point:
        """Train from a point up to the end of epoch `until`, and return where it got.

        That is short of `until` if `stopping` answered True after a step. Raise `TaskFailed` in the epoch in which the loss is
        no longer finite.
        """
        (end,) = train_together([self], [start], until, stopping=stopping, after_epoch=[after_epoch], watch=watch)
        if isinstance(end, TaskFailed):
            raise end
        return end

    def load(self, start: Point) -> None:
        """Go to a point."""
        recipe, objective = self.rules.recipe, self.rules.objective
        self.trainee = TrainState(self.network, self.augmenter, self.labels, recipe, objective, self.teacher)
        self.network.load(start.weights)
        self._infinite = self.network.vector.isinf()
        self.network.module.train()
        for name, memory in start.memory.items():
            self.trainee.optimizer.memory[name].copy_(self.network.flatten_trained(memory))
        self.trainee.loss_sum.fill_(start.loss_sum)
        self.trainee.correct.fill_(start.correct)
        self.step, self._age, self._history = start.step, start.optimizer_steps, list(start.history)
        self._ordered: tuple[int, Tensor] = -1, self.labels[:0]

    def moment(self) -> StepInputs:
        """Return what the next step is told."""
        epoch, within = divmod(self.step, self.steps_per_epoch)
        return StepInputs(
            indices=self._order(epoch)[within * self.batch : (within + 1) * self.batch],
            augmentation=self._key("augmentation", epoch),
            noise=self._key("noise", epoch, within),
            rate=self.rules.rate(self.step),
            count=self._age + 1,
        )

    def count_step(self) -> None:
        """Take note that a step was taken."""
        self.step += 1
        self._age += 1

    def end_epoch(self, began: float) -> EpochRecord:
        """Read the epoch's sums from the device, once an epoch, and start new ones. Raise `TaskFailed` if it has diverged."""
        epoch = self.step // self.steps_per_epoch
        loss = float(self.trainee.loss_sum) / self.steps_per_epoch
        if not (math.isfinite(loss) and self._weights_are_finite()):
            raise TaskFailed(f"diverged in epoch {epoch}: the training loss is {loss}; lower the learning rate")
        accuracy = 100 * int(self.trainee.correct) / (self.steps_per_epoch * self.batch)
        record = EpochRecord(epoch, loss, accuracy, self.rules.rate(self.step - 1), time.monotonic() - began)
        self._history.append(record)
        self.trainee.loss_sum.zero_()
        self.trainee.correct.zero_()
        return record

    def _weights_are_finite(self) -> bool:
        """Say whether all values are finite but those that were infinite at the start (bounds of a clamp, say)."""
        vector = self.network.vector
        return bool((vector.isfinite() | (vector.isinf() & self._infinite)).all())

    def point(self) -> Point:
        """Return a copy of where it is."""
        memory = {name: self.network.unflatten(vector) for name, vector in self.trainee.optimizer.memory.items()}
        sums = float(self.trainee.loss_sum), int(self.trainee.correct)
        return Point(self.step, self.network.state(), memory, self._age, *sums, tuple(self._history))

    def _order(self, epoch: int) -> Tensor:
        """Return the epoch's order of images; kept until the next epoch asks for its own."""
        if self._ordered[0] != epoch:
            self._ordered = epoch, streams.permutation(self._key("batches", epoch), len(self.labels), self.labels.device)
        return self._ordered[1]

    def _key(self, *name: str | int) -> int:
        return streams.key(*self.rules.order, *name)


def train_together(
    trainers: Sequence[Trainer],
    starts: Sequence[Point],
    until: int,
    *,
    stopping: Callable[[], bool] = _never,
    after_epoch: Sequence[AfterEpoch] | None = None,
    watch: Stopwatch | None = None,
) -> list[Point | TaskFailed]:
    """Train siblings step by step, from points at one step up to the end of epoch `until`; return where each got.

    What a sibling sees and computes is what it would alone. One that diverges has failed, and the others go on.
    """
    if len({start.step for start in starts}) != 1:
        raise ValueError(f"siblings start at one step; these start at {', '.join(str(start.step) for start in starts)}")
    for trainer, start in zip(trainers, starts, strict=True):
        trainer.load(start)
    run = _Run(list(trainers), list(after_epoch or [_ignore] * len(trainers)), watch or Stopwatch())
    with run.watch("other"), streams.generators_restored(run.device):
        run.go(until, stopping)
        return [run.failed.get(j) or trainer.point() for j, trainer in enumerate(trainers)]


@dataclass
class _Run:
    """Siblings on their way."""

    trainers: list[Trainer]
    after_epoch: list[AfterEpoch]
    watch: Stopwatch
    failed: dict[int, TaskFailed] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.trainers[0].trainee.device

    def go(self, until: int, stopping: Callable[[], bool]) -> None:
        """Take steps until the end of an epoch, or until asked to stop, or until nobody is left."""
        first, began = self.trainers[0], time.monotonic()
        left = until * first.steps_per_epoch - first.step
        if left <= 0:
            return
        trainees = [trainer.trainee for trainer in self.trainers]
        step_function = make_step_function(trainees, [trainer.moment() for trainer in self.trainers], left, self.watch)
        while first.step < until * first.steps_per_epoch and len(self.failed) < len(trainees) and not stopping():
            if first.step % first.steps_per_epoch == 0:
                began = time.monotonic()
            self.watch.turn("data")
            step_function([trainer.moment() for trainer in self.trainers])
            for trainer in self.trainers:
                trainer.count_step()
            if first.step % first.steps_per_epoch == 0:
                self._end_epoch(began)
            self.watch.turn("other")

    def _end_epoch(self, began: float) -> None:
        for j, trainer in enumerate(self.trainers):
            if j in self.failed:
                continue
            self.watch.turn("device")
            try:
                record = trainer.end_epoch(began)
            except TaskFailed as error:
                self.failed[j] = error
                continue
            self.watch.turn("other")
            self.after_epoch[j](record, trainer.point)


def record_json(record: EpochRecord) -> dict[str, Any]:
    """Return an epoch's record as JSON."""
    return {
        "epoch": record.epoch,
        "loss": record.loss,
        "accuracy": record.accuracy,
        "learning_rate": record.learning_rate,
        "seconds": round(record.seconds, 3),
    }
