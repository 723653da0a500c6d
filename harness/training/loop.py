"""Training from one point of a trajectory to another, alone or as siblings. Knows nothing of files, methods or engines.

What a sibling draws is a function of its own order stream (`harness.training.trainer`). A training that is stopped after any
step and continued, alone or in a group, is therefore the same training; on the CPU it is equal to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from harness import streams
from harness.errors import TaskFailed
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import DEFAULT_POLICY, CapturePolicy, StepFunction, make_step_function
from harness.training.point import EpochRecord, Point
from harness.training.step import StepInputs, TakeSteps, take_each
from harness.training.stepping import OnStepping, warn_of_fallback
from harness.training.trainer import Trainer

AfterEpoch = Callable[[EpochRecord, Callable[[], Point]], None]
"""Receives an epoch's record and a function that returns a copy of the current point."""
Around = Callable[[StepFunction], StepFunction]


def _ignore(record: EpochRecord, point: Callable[[], Point]) -> None:
    pass


def _never() -> bool:
    return False


def _unchanged(step_function: StepFunction) -> StepFunction:
    return step_function


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
