"""One training from one point of a trajectory to another. Knows nothing of files, methods or engines.

All randomness comes from the trajectory's order stream: the order of an epoch is a function of (stream, epoch), an image's
augmentation of (stream, epoch, image), dropout of (stream, epoch, step). A training that was cut anywhere and went on is
therefore the same training; on the CPU to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.errors import TaskFailed
from harness.interfaces import Objective
from harness.recipe import Recipe
from harness.streams import Name
from harness.training.augmentation import Augmenter
from harness.training.optimizers import Optimizer, make_optimizer
from harness.weights import FlatNetwork, State


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch looked like: mean training loss (nats) and accuracy (percent), on the augmented images, as trained."""

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float


@dataclass
class Point:
    """A point of a trajectory: everything that its continuation is a function of. Tensors on the CPU, in plain layout.

    `step` counts from initialisation; `optimizer_steps` since the optimiser's memory was empty. The sums belong to the epoch
    that is under way.
    """

    step: int
    weights: State
    memory: dict[str, State] = field(default_factory=dict)
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


class Trainer:
    """Moves a network along its trajectory.

    `augmenter` holds the training images on the device and `labels` (n,) lie beside them; `teacher`, if the objective wants
    one, is a network in evaluation mode that sees the same augmented views.
    """

    def __init__(
        self, network: FlatNetwork, augmenter: Augmenter, labels: Tensor, rules: Rules, teacher: FlatNetwork | None = None
    ) -> None:
        self.network, self.augmenter, self.labels, self.rules, self.teacher = network, augmenter, labels, rules, teacher
        self.device = network.vector.device
        self.batch = min(rules.recipe.batch_size, len(labels))
        self.steps_per_epoch = rules.recipe.steps_per_epoch(len(labels))
        self.optimizer: Optimizer = make_optimizer(rules.recipe, network.trained)

    def run(
        self,
        start: Point,
        until: int,
        *,
        stopping: Callable[[], bool] = lambda: False,
        after_epoch: Callable[[EpochRecord, Callable[[], Point]], None] = lambda record, point: None,
    ) -> Point:
        """Train from a point up to the end of epoch `until`, and return where it got.

        That is short of `until` if `stopping` answered True after a step. `after_epoch` gets each epoch's record and a
        function that takes a copy of the state. Raise `TaskFailed` in the epoch in which the loss is no longer finite.
        """
        self._load(start)
        step, history, began = start.step, list(start.history), time.monotonic()
        loss_sum = torch.tensor(start.loss_sum, device=self.device, dtype=torch.float64)
        correct = torch.tensor(start.correct, device=self.device, dtype=torch.int64)
        with streams.seeded(0, self.device):  # the steps seed the global generator for dropout; give it back afterwards
            while step < until * self.steps_per_epoch and not stopping():
                if step % self.steps_per_epoch == 0:
                    began = time.monotonic()
                epoch = step // self.steps_per_epoch
                logits, loss, labels = self._step(epoch, step, self._memory_age(start, step) + 1)
                loss_sum += loss
                correct += (logits.argmax(1) == labels).sum()
                step += 1
                if step % self.steps_per_epoch == 0:
                    record = self._record(epoch, step, loss_sum, correct, time.monotonic() - began)
                    history.append(record)
                    loss_sum.zero_()
                    correct.zero_()
                    after_epoch(record, partial(self._point, start, step, 0.0, 0, history))
        return self._point(start, step, float(loss_sum), int(correct), history)

    def _step(self, epoch: int, step: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step; return the batch's logits (batch, classes), the loss and the labels, all on the device."""
        network, recipe = self.network, self.rules.recipe
        within = step % self.steps_per_epoch
        chosen = self._order(epoch)[within * self.batch : (within + 1) * self.batch]
        images = self.augmenter(chosen, self._augmentation_key(epoch))
        labels = self.labels[chosen]
        torch.manual_seed(streams.key(*self.rules.order, "noise", epoch, within))
        assert network.gradient is not None
        network.gradient.zero_()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network.module(images)
            with torch.no_grad():
                teacher_logits = None if self.teacher is None else self.teacher.module(images).float()
        logits = logits.float()
        loss = self.rules.objective.loss(logits, labels, teacher_logits=teacher_logits, label_smoothing=recipe.label_smoothing)
        loss.backward()
        if recipe.clip_norm is not None:
            norm = torch.linalg.vector_norm(network.gradient)
            network.gradient.mul_((recipe.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.step(network.trained, network.gradient, self.rules.rate(step), count)
        return logits.detach(), loss.detach(), labels

    def _order(self, epoch: int) -> Tensor:
        """Return the epoch's order of images; kept until the next epoch asks for its own."""
        if getattr(self, "_ordered", None) != epoch:
            self._ordered = epoch
            self._order_now = streams.permutation(
                streams.key(*self.rules.order, "batches", epoch), len(self.labels), self.device
            )
        return self._order_now

    def _augmentation_key(self, epoch: int) -> int:
        return streams.key(*self.rules.order, "augmentation", epoch)

    def _memory_age(self, start: Point, step: int) -> int:
        return start.optimizer_steps + step - start.step

    def _record(self, epoch: int, step: int, loss_sum: Tensor, correct: Tensor, seconds: float) -> EpochRecord:
        """Read the epoch's sums from the device: once an epoch."""
        loss = float(loss_sum) / self.steps_per_epoch
        if not (math.isfinite(loss) and bool(torch.isfinite(self.network.vector).all())):
            raise TaskFailed(f"diverged in epoch {epoch + 1}: the training loss is {loss}; lower the learning rate")
        accuracy = 100 * int(correct) / (self.steps_per_epoch * self.batch)
        return EpochRecord(epoch + 1, loss, accuracy, self.rules.rate(step - 1), seconds)

    def _load(self, start: Point) -> None:
        self.network.load(start.weights)
        self.network.module.train()
        for name, memory in start.memory.items():
            self.optimizer.memory[name].copy_(self.network.flatten_parameters(memory))

    def _point(self, start: Point, step: int, loss_sum: float, correct: int, history: list[EpochRecord]) -> Point:
        memory = {name: self.network.unflatten(vector) for name, vector in self.optimizer.memory.items()}
        age = self._memory_age(start, step)
        return Point(step, self.network.state(), memory, age, loss_sum, correct, tuple(history))


def record_json(record: EpochRecord) -> dict[str, Any]:
    """Return an epoch's record as JSON."""
    return {
        "epoch": record.epoch,
        "loss": record.loss,
        "accuracy": record.accuracy,
        "learning_rate": record.learning_rate,
        "seconds": round(record.seconds, 3),
    }
