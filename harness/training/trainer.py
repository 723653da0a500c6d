"""One network on its way along a trajectory: the inputs of its next step, its sums, its history. Takes no steps itself.

All randomness comes from the trajectory's order stream. The order of an epoch is a function of (stream, epoch), an image's
augmentation of (stream, epoch, image), dropout of (stream, epoch, step).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from harness import streams
from harness.api.interfaces import Objective
from harness.api.moments import Moments
from harness.api.recipe import Recipe
from harness.errors import TaskFailed
from harness.networks.flat_network import FlatNetwork
from harness.streams import Name
from harness.training.augmentation import Augmenter
from harness.training.moments import MomentCollector
from harness.training.point import EpochRecord, Point
from harness.training.step import StepInputs, TrainState


@dataclass(frozen=True)
class Rules:
    """What determines a trajectory from its start: recipe, objective, learning rate per step, order stream; and its moments."""

    recipe: Recipe
    objective: Objective
    rate: Callable[[int], float]
    order: Name
    moments: Moments | None = None


class Trainer:
    """The training of one network along its trajectory. `train_together` takes its steps.

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
