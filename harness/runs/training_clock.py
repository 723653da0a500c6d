"""How far the training of a run is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.api.specs import TrainSpec
from harness.api.task import Task

_DIGITS = 9  # after the point, of epochs left: subtracting costs such as 4/3 leaves rounding errors


def number(epochs: float) -> str:
    """Return a number of epochs with one digit after the point at most."""
    return f"{epochs:.1f}".removesuffix(".0")


class TrainingClock:
    """Counts the cost of training, in epochs of plain training, and estimates the time left from it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.plan(0.0)

    def plan(self, total: float) -> None:
        """Start over with the epochs to train."""
        self.total, self._done, self._began = total, 0.0, self._now()
        self._under_way: dict[str, float] = {}

    def epoch(self, task: Task, epoch: int) -> None:
        """Note that a training has reached an epoch."""
        spec = task.spec
        assert isinstance(spec, TrainSpec)
        first, last = spec.start.epoch, spec.epoch
        self._under_way[task.key] = task.cost * (epoch - first) / max(1, last - first)

    def ended(self, task: Task, done: bool) -> None:
        """Note that a training or a derivation has ended."""
        self._under_way.pop(task.key, None)
        if done:
            self._done += task.cost

    def taken_over(self, task: Task) -> None:
        """Note that another run has done a training or a derivation: this run has that much less to train."""
        self._under_way.pop(task.key, None)
        self.total = max(0.0, round(self.total - task.cost, _DIGITS))

    @property
    def done(self) -> float:
        """The cost of what has been trained, trainings under way included."""
        return min(self.total, self._done + sum(self._under_way.values()))

    @property
    def left(self) -> str:
        """Minutes and seconds until all training is done, as far as can be told."""
        if self.done <= 0:
            return "--:--"
        seconds = int((self._now() - self._began) * (self.total - self.done) / self.done)
        hours, rest = divmod(seconds, 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"

    def describe(self) -> str:
        """Return how far the run's training is, in words."""
        return f"{number(self.done)} of {number(self.total)} epochs, {self.left} left"
