"""Training from one point of a trajectory to another, alone or as siblings. Knows nothing of files, methods or engines.

All randomness comes from the trajectory's order stream. The order of an epoch is a function of (stream, epoch), an image's
augmentation of (stream, epoch, image), dropout of (stream, epoch, step). A training that is stopped after any step and
continued, alone or in a group, is therefore the same training; on the CPU it is equal to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.api.interfaces import Objective
from harness.api.moments import Moments
from harness.api.recipe import Recipe
from harness.errors import TaskFailed
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.streams import Name
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.cuda_graph import DEFAULT_POLICY, CapturePolicy, StepFunction, make_step_function
from harness.training.moments import MomentCollector
from harness.training.step import StepInputs, TakeSteps, TrainState, take_each
from harness.training.stepping import OnStepping, warn_of_fallback


@dataclass(frozen=True)
class EpochRecord:
    """The mean training loss (nats) and the training accuracy (percent) of an epoch, measured on the augmented images.

    `seconds` are those of the whole group if siblings train together.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON, with seconds rounded to milliseconds."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass
class Point:
    """A point of a trajectory: everything that the rest of the training depends on. Tensors on the CPU, in plain layout.

    `step` counts from initialization; `optimizer_steps` counts from when the optimizer's memory was empty. `loss_sum` and
    `correct` are those of the epoch in progress. `moments` are parts of an object with the moments of `collected` epochs.
    """

    step: int
    weights: StateDict
    memory: dict[str, StateDict] = field(default_factory=dict)
    optimizer_steps: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    history: tuple[EpochRecord, ...] = ()
    moments: dict[str, StateDict] = field(default_factory=dict)
    collected: int = 0


@dataclass(frozen=True)
class Rules:
    """What determines a trajectory from its start: recipe, objective, learning rate per step, order stream; and its moments."""

    recipe: Recipe
    objective: Objective
    rate: Callable[[int], float]
    order: Name
    moments: Moments | None = None


AfterEpoch = Callable[[EpochRecord, Callable[[], Point]], None]
"""Receives an epoch's record and a function that returns a copy of the current point."""
Around = Callable[[StepFunction], StepFunction]


def _ignore(record: EpochRecord, point: Callable[[], Point]) -> None:
    pass


def _never() -> bool:
    return False


def _unchanged(step_function: StepFunction) -> StepFunction:
    return step_function


class Trainer:
    """Trains one network along its trajectory.

    `augmenter` holds the training images on the device and `labels`, int64 (n,), their classes. `teacher`, if the objective
    needs one, is a network in evaluation mode.
    """

    def __init__(
        self, network: FlatNetwork, augmenter: Augmenter, labels: Tensor, rules: Rules, teacher: FlatNetwork | None = None
    ) -> None:
        self.network = network
        self.augmenter = augmenter
        self.labels = labels
        self.rules = rules
        self.teacher = teacher
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
        """Train from a point to the end of epoch `until`; return the point that was reached.

        That is an earlier one if `stopping` returned True after a step. Raise `TaskFailed` in the epoch in which the loss is no
        longer finite.
        """
        (end,) = train_together([self], [start], until, stopping=stopping, after_epoch=[after_epoch], watch=watch)
        if isinstance(end, TaskFailed):
            raise end
        return end

    def load(self, start: Point) -> None:
        """Set network, optimizer and sums to a point."""
        recipe, objective = self.rules.recipe, self.rules.objective
        self.state = TrainState(self.network, self.augmenter, self.labels, recipe, objective, self.teacher)
        self.network.load(start.weights)
        self._infinite = self.network.vector.isinf()
        self.network.module.train()
        for name, memory in start.memory.items():
            self.state.optimizer.memory[name].copy_(self.network.flatten_trained(memory))
        self.state.loss_sum.fill_(start.loss_sum)
        self.state.correct.fill_(start.correct)
        self._moments = None
        if self.rules.moments is not None:
            self._moments = MomentCollector(self.network, self.rules.moments, start.moments, start.collected)
        self.step = start.step
        self._optimizer_steps = start.optimizer_steps
        self._history = list(start.history)
        self._ordered_epoch = -1
        self._order = self.labels[:0]

    def next_inputs(self) -> StepInputs:
        """Return the inputs of the next step."""
        epoch, step_in_epoch = divmod(self.step, self.steps_per_epoch)
        return StepInputs(
            indices=self._order_of(epoch)[step_in_epoch * self.batch : (step_in_epoch + 1) * self.batch],
            augmentation=self._key("augmentation", epoch),
            noise=self._key("noise", epoch, step_in_epoch),
            rate=self.rules.rate(self.step),
            count=self._optimizer_steps + 1,
        )

    def count_step(self) -> None:
        """Count a step that was taken."""
        self.step += 1
        self._optimizer_steps += 1

    def end_epoch(self, began: float) -> EpochRecord:
        """Read the epoch's sums from the device and reset them; return the epoch's record.

        `began` is the monotonic time in seconds at which the epoch began. Raise `TaskFailed` if the training has diverged.
        """
        epoch = self.step // self.steps_per_epoch
        loss_sum, correct = self._read_sums()
        loss = loss_sum / self.steps_per_epoch
        if not (math.isfinite(loss) and self._weights_are_finite()):
            raise TaskFailed(f"diverged in epoch {epoch}: the training loss is {loss}; lower the learning rate")
        accuracy = 100 * correct / (self.steps_per_epoch * self.batch)
        record = EpochRecord(epoch, loss, accuracy, self.rules.rate(self.step - 1), time.monotonic() - began)
        self._history.append(record)
        if self._moments is not None:
            self._moments.after_epoch(epoch)
        self.state.loss_sum.zero_()
        self.state.correct.zero_()
        return record

    def _read_sums(self) -> tuple[float, int]:
        """Read the epoch's sums from the device: of the losses, and of the correct predictions."""
        return float(self.state.loss_sum), int(self.state.correct)

    def _weights_are_finite(self) -> bool:
        """Return whether all values are finite, except those that were infinite at the start (bounds of a clamp, say)."""
        vector = self.network.vector
        return bool((vector.isfinite() | (vector.isinf() & self._infinite)).all())

    def point(self) -> Point:
        """Return a copy of the current point."""
        loss_sum, correct = self._read_sums()
        memory = {name: self.network.unflatten(vector) for name, vector in self.state.optimizer.memory.items()}
        return Point(
            step=self.step,
            weights=self.network.state(),
            memory=memory,
            optimizer_steps=self._optimizer_steps,
            loss_sum=loss_sum,
            correct=correct,
            history=tuple(self._history),
            moments={} if self._moments is None else self._moments.parts(),
            collected=0 if self._moments is None else self._moments.count,
        )

    def _order_of(self, epoch: int) -> Tensor:
        """Return the epoch's order of images, int64 (n,); computed once per epoch."""
        if self._ordered_epoch != epoch:
            self._ordered_epoch = epoch
            self._order = streams.permutation(self._key("batches", epoch), len(self.labels), self.labels.device)
        return self._order

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
    capture_policy: CapturePolicy = DEFAULT_POLICY,
    on_stepping: OnStepping | None = None,
    around: Around = _unchanged,
    take_steps: TakeSteps = take_each,
) -> list[Point | TaskFailed]:
    """Train siblings step by step, from points at one step to the end of epoch `until`; return the points that were reached.

    Each sibling sees and computes what it would alone. One that diverges yields its `TaskFailed`, and the others continue.
    `capture_policy` says when steps are captured on a GPU. `on_stepping` is called before the first step with how steps are
    taken; without it, the reason why steps are not captured or not compiled is a `RuntimeWarning`. What takes the steps is
    `around(…)` of the function that would: it may do something before or after each step. `take_steps` computes a step; by
    default, the siblings' are independent.
    """
    if len({start.step for start in starts}) != 1:
        raise ValueError(f"siblings start at one step; these start at {', '.join(str(start.step) for start in starts)}")
    for trainer, start in zip(trainers, starts, strict=True):
        trainer.load(start)
    run = _GroupRun(list(trainers), list(after_epoch or [_ignore] * len(trainers)), watch or Stopwatch())
    with run.watch("other"), streams.generators_restored(run.device):
        run.train(until, stopping, capture_policy, on_stepping or warn_of_fallback, around, take_steps)
        return [run.failed.get(index) or trainer.point() for index, trainer in enumerate(trainers)]


@dataclass
class _GroupRun:
    """The training of siblings. `failed` has the errors of those that diverged, by their index."""

    trainers: list[Trainer]
    after_epoch: list[AfterEpoch]
    watch: Stopwatch
    failed: dict[int, TaskFailed] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.trainers[0].state.device

    def train(
        self,
        until: int,
        stopping: Callable[[], bool],
        policy: CapturePolicy,
        on_stepping: OnStepping,
        around: Around,
        take_steps: TakeSteps,
    ) -> None:
        """Take steps to the end of epoch `until`, or until `stopping` returns True, or until all siblings have diverged."""
        first = self.trainers[0]
        steps = until * first.steps_per_epoch - first.step
        if steps <= 0:
            return
        began = time.monotonic()
        states = [trainer.state for trainer in self.trainers]
        step_function, stepping = make_step_function(states, self._next_inputs(), steps, self.watch, policy, take_steps)
        on_stepping(stepping)
        self._take_steps(around(step_function), until, stopping, began)

    def _take_steps(self, step_function: StepFunction, until: int, stopping: Callable[[], bool], began: float) -> None:
        """Take the steps; `began` is the time at which the first epoch began, or was continued."""
        first = self.trainers[0]
        while first.step < until * first.steps_per_epoch and len(self.failed) < len(self.trainers) and not stopping():
            if first.step % first.steps_per_epoch == 0:
                began = time.monotonic()
            self.watch.turn("data")
            step_function(self._next_inputs())
            for trainer in self.trainers:
                trainer.count_step()
            if first.step % first.steps_per_epoch == 0:
                self._end_epoch(began)
            self.watch.turn("other")

    def _next_inputs(self) -> list[StepInputs]:
        return [trainer.next_inputs() for trainer in self.trainers]

    def _end_epoch(self, began: float) -> None:
        for index, trainer in enumerate(self.trainers):
            if index in self.failed:
                continue
            self.watch.turn("device")
            try:
                record = trainer.end_epoch(began)
            except TaskFailed as error:
                self.failed[index] = error
                continue
            self.watch.turn("other")
            self.after_epoch[index](record, trainer.point)
