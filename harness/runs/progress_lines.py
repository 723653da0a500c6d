"""Progress of a run as plain lines, for a log: at the start, once a minute or every few percent, and for what is unusual."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.api.specs import TrainSpec
from harness.runs.notes import Notes, Say
from harness.runs.task_texts import doing
from harness.runs.training_clock import TrainingClock, number
from harness.telemetry import events

if TYPE_CHECKING:
    from harness.execution.run_plan import RunPlan

_EVERY_SECONDS = 60.0  # between two lines about work in progress
_SHARES = 20  # equal shares of the run's epochs; the end of each gets a line, too


def plan_line(event: events.RunPlanned) -> str:
    """Return what there is to do."""
    return f"{event.cells} cells: {event.tasks} tasks to do, {number(event.epochs)} epochs to train"


class Lines:
    """Prints lines about a run's progress."""

    def __init__(self, plan: RunPlan, say: Say, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks, self._say, self._now = plan.tasks, say, now
        self._notes = Notes(say)
        self._clock = TrainingClock(now)
        self._last_epochs: dict[str, events.EpochEnded] = {}
        self._kinds_begun: set[str] = set()
        self._planned = self._ended = 0
        self._said_at = now()
        self._said_shares = 0

    def show(self, event: events.Event) -> None:
        """Print what is worth a line."""
        self._notes.show(event)
        if isinstance(event, events.RunPlanned):
            self._show_plan(event)
        elif isinstance(event, events.TaskStarted):
            self._show_start(event)
        elif isinstance(event, events.EpochEnded):
            self._show_epoch(event)
        elif isinstance(event, events.DerivationEpochEnded):
            if self._minute_is_over():
                what = doing(event, self._tasks.get(event.task))
                self._say_progress(f"{what}, epoch {event.epoch} ({self._describe_tasks()})")
        elif isinstance(event, events.TaskEnded):
            self._show_end(event)

    def _show_plan(self, event: events.RunPlanned) -> None:
        self._clock.plan(event.epochs)
        self._planned, self._ended = event.tasks, 0
        self._said_at, self._said_shares = self._now(), 0
        self._say(plan_line(event))

    def _show_start(self, event: events.TaskStarted) -> None:
        """Print the first derivation, prediction and measurement, which may take long, and what begins after a minute."""
        if event.kind in ("check", "train"):
            return
        if event.kind not in self._kinds_begun or self._minute_is_over():
            self._kinds_begun.add(event.kind)
            self._say_progress(f"{doing(event, self._tasks.get(event.task))} ({self._describe_tasks()})")

    def _show_epoch(self, event: events.EpochEnded) -> None:
        self._clock.epoch(self._tasks[event.task], event.epoch)
        self._last_epochs[event.task] = event
        if self._minute_is_over():
            where = f"epoch {event.epoch} of {event.until}{_facts(event)}"
            self._say_progress(f"training {event.description}, {where} ({self._clock.describe()})")

    def _show_end(self, event: events.TaskEnded) -> None:
        self._ended += event.kind != "check"
        last = self._last_epochs.pop(event.task, None)
        if event.taken_over:
            self._clock.taken_over(self._tasks[event.task])
            return
        if event.kind in ("train", "derive"):
            self._clock.ended(self._tasks[event.task], event.status == "done")
        if event.status == "failed":
            return
        if event.status == "done" and event.kind == "train" and (self._share_is_done() or self._minute_is_over()):
            self._say_training(event, last)
        elif self._minute_is_over():
            self._say_progress(f"{self._describe_tasks()} ({self._clock.describe()})")

    def _say_training(self, event: events.TaskEnded, last: events.EpochEnded | None) -> None:
        spec = self._tasks[event.task].spec
        assert isinstance(spec, TrainSpec)
        reached = f"to epoch {spec.epoch}{_facts(last)}"
        self._say_progress(f"trained {event.description}, {reached} ({self._clock.describe()})")

    def _describe_tasks(self) -> str:
        return f"{self._ended} of {self._planned} tasks have ended"

    def _minute_is_over(self) -> bool:
        return self._now() - self._said_at >= _EVERY_SECONDS

    def _share_is_done(self) -> bool:
        return self._shares() > self._said_shares

    def _shares(self) -> int:
        """Return how many of the run's equal shares have been trained."""
        if not self._clock.total:
            return 0
        return int(_SHARES * self._clock.done / self._clock.total + 1e-9)

    def _say_progress(self, line: str) -> None:
        self._said_at, self._said_shares = self._now(), self._shares()
        self._say(line)


def _facts(epoch: events.EpochEnded | None) -> str:
    if epoch is None:
        return ""
    return f": loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.1f} %"
