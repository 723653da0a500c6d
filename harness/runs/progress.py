"""Progress of a run, from its events: progress bars on a terminal, occasional lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.api.specs import TrainSpec
from harness.telemetry import events

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from harness.api.task import Task
    from harness.plan.graph import Graph

Show = Callable[[events.Event], None]
Say = Callable[[str], None]

_EVERY_SECONDS = 60.0  # between two lines about progress in a log
_SHARES = 20  # equal shares of the run's epochs; the end of each share gets a line too
_MAX_NOTES = 20  # lines about single events of one kind (failures, retries); the event log has all of them


def _say_on_standard_error(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def progress(graph: Graph) -> Iterator[Show]:
    """Yield a function that shows events: as bars if standard error is a terminal, else as lines."""
    if not _can_redraw():
        yield Lines(graph).show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = BarColumn(bar_width=24)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), bar, MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as screen:
        yield Bars(graph, screen).show


def _can_redraw() -> bool:
    """Return whether standard error is a terminal that can redraw lines. Without TERM this is unknown, so it counts as no."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


class Clock:
    """Counts completed training, in epochs of plain training, and estimates the remaining time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.plan(0.0)

    def plan(self, total: float) -> None:
        """Start a new plan with `total` epochs to train."""
        self.total, self._done, self._began = total, 0.0, self._now()
        self._in_progress: dict[str, float] = {}

    def epoch(self, task: Task, epoch: int) -> None:
        """Record that a training has reached an epoch."""
        spec = task.spec
        assert isinstance(spec, TrainSpec)
        first, last = spec.start.epoch, spec.epoch
        self._in_progress[task.key] = task.cost * (epoch - first) / max(1, last - first)

    def ended(self, task: Task, done: bool) -> None:
        """Record that a training has ended."""
        self._in_progress.pop(task.key, None)
        if done:
            self._done += task.cost

    @property
    def done(self) -> float:
        """The epochs that were trained, including those of trainings in progress."""
        return min(self.total, self._done + sum(self._in_progress.values()))

    @property
    def left(self) -> str:
        """The estimated time until all training is done, as `MM:SS` or `H:MM:SS`; `--:--` before the first epoch."""
        if self.done <= 0:
            return "--:--"
        seconds = int((self._now() - self._began) * (self.total - self.done) / self.done)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours}:{minutes:02d}:{seconds:02d}"
        return f"{minutes:02d}:{seconds:02d}"

    def describe(self) -> str:
        """Return the progress and the remaining time, such as `12 of 40 epochs, 03:10 left`."""
        return f"{_number(self.done)} of {_number(self.total)} epochs, {self.left} left"


class Lines:
    """Plain lines for a log: at the start, once a minute or every 5 % of the training, and for unusual events."""

    def __init__(self, graph: Graph, say: Say = _say_on_standard_error, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks, self._say, self._now = graph.tasks, say, now
        self._clock = Clock(now)
        self._last_epochs: dict[str, events.EpochEnded] = {}
        self._notes: Counter[str] = Counter()
        self._failures: set[str] = set()
        self._planned = self._ended = 0
        self._printed_at = now()
        self._printed_shares = 0

    def show(self, event: events.Event) -> None:
        """Print a line if an event needs one."""
        if isinstance(event, events.RunPlanned):
            self._show_plan(event)
        elif isinstance(event, events.EngineOpened):
            self._say(f"{event.engine} engine: {event.message}")
        elif isinstance(event, events.EpochEnded):
            self._show_epoch(event)
        elif isinstance(event, events.ObjectQuarantined):
            self._note(event, f"{event.message}; moved to {event.path} and computed again")
        elif isinstance(event, events.RunWarning):
            self._note(event, f"warning: {event.message}")
        elif isinstance(event, events.TaskWaiting):
            self._note(event, f"waiting: {event.description}: {event.message}")
        elif isinstance(event, events.OutOfMemory | events.TaskRetried):
            self._note(event, f"{event.description}: {event.message}")
        elif isinstance(event, events.ObserverFailed):
            self._say(f"observer {event.observer} failed and gets no more events: {event.message}")
        elif isinstance(event, events.TaskEnded):
            self._show_end(event)

    def _show_plan(self, event: events.RunPlanned) -> None:
        self._clock.plan(event.epochs)
        self._planned = event.tasks
        self._ended = 0
        self._printed_at = self._now()
        self._printed_shares = 0
        self._say(f"{event.cells} cells: {event.tasks} tasks to do, {_number(event.epochs)} epochs to train")

    def _show_epoch(self, event: events.EpochEnded) -> None:
        self._clock.epoch(self._tasks[event.task], event.epoch)
        self._last_epochs[event.task] = event
        if self._minute_is_over():
            where = f"epoch {event.epoch} of {event.until}{_facts(event)}"
            self._print_progress(f"training {event.description}, {where} ({self._clock.describe()})")

    def _show_end(self, event: events.TaskEnded) -> None:
        self._ended += event.kind != "check"
        last = self._last_epochs.pop(event.task, None)
        if event.kind == "train":
            self._clock.ended(self._tasks[event.task], event.status == "done")
        if event.status == "failed":
            reason = "for the same reason" if event.message in self._failures else event.message
            self._failures.add(event.message)
            self._note(event, f"failed: {event.description}: {reason}")
        elif event.status == "done" and event.kind == "train" and (self._share_is_done() or self._minute_is_over()):
            self._print_training(event, last)
        elif self._minute_is_over():
            self._print_progress(f"{self._ended} of {self._planned} tasks have ended ({self._clock.describe()})")

    def _print_training(self, event: events.TaskEnded, last: events.EpochEnded | None) -> None:
        spec = self._tasks[event.task].spec
        assert isinstance(spec, TrainSpec)
        reached = f"to epoch {spec.epoch}{_facts(last)}"
        self._print_progress(f"trained {event.description}, {reached} ({self._clock.describe()})")

    def _minute_is_over(self) -> bool:
        return self._now() - self._printed_at >= _EVERY_SECONDS

    def _share_is_done(self) -> bool:
        return self._shares() > self._printed_shares

    def _shares(self) -> int:
        """Return how many shares of the run's epochs have been trained."""
        if not self._clock.total:
            return 0
        return int(_SHARES * self._clock.done / self._clock.total + 1e-9)

    def _print_progress(self, line: str) -> None:
        self._printed_at = self._now()
        self._printed_shares = self._shares()
        self._say(line)

    def _note(self, event: events.Event, line: str) -> None:
        """Print a line about a single event, unless many of its kind were printed. Failed tasks are one kind."""
        kind = "failed" if isinstance(event, events.TaskEnded) else event.event
        self._notes[kind] += 1
        if self._notes[kind] <= _MAX_NOTES:
            self._say(line)
        if self._notes[kind] == _MAX_NOTES:
            self._say(f"further lines of this kind ({kind}) are left out; events.jsonl in the run's folder has them all")


def _number(epochs: float) -> str:
    return f"{epochs:.1f}".removesuffix(".0")


def _facts(epoch: events.EpochEnded | None) -> str:
    if epoch is None:
        return ""
    return f": loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.1f} %"


class Bars:
    """A bar for the whole run and one per training in progress."""

    def __init__(self, graph: Graph, screen: Progress) -> None:
        self._tasks, self._screen, self._clock = graph.tasks, screen, Clock()
        self._whole = screen.add_task("epochs", total=None, note="")
        self._bars: dict[str, TaskID] = {}
        say = partial(screen.console.print, markup=False, highlight=False, soft_wrap=True)  # above the bars
        self._lines = Lines(graph, say)

    def show(self, event: events.Event) -> None:
        """Update the bars; print a line above them if an event needs one."""
        if isinstance(event, events.RunPlanned):
            self._clock.plan(event.epochs)
            self._screen.update(self._whole, total=round(event.epochs), completed=0)
        elif isinstance(event, events.TrainingStarted):
            bar = self._screen.add_task(event.description, total=event.until, completed=int(event.epoch), note="")
            self._bars[event.task] = bar
        elif isinstance(event, events.EpochEnded):
            self._show_epoch(event)
        elif isinstance(event, events.TaskEnded):
            self._show_end(event)
        else:
            self._lines.show(event)

    def _show_epoch(self, event: events.EpochEnded) -> None:
        if event.task in self._bars:
            note = f"loss {event.loss:.3f}  accuracy {event.accuracy:.1f} %"
            self._screen.update(self._bars[event.task], completed=event.epoch, note=note)
            self._clock.epoch(self._tasks[event.task], event.epoch)
            self._update_whole()

    def _show_end(self, event: events.TaskEnded) -> None:
        if event.task in self._bars:
            self._screen.remove_task(self._bars.pop(event.task))
        if event.status == "failed":
            self._lines.show(event)
        if event.kind == "train":
            self._clock.ended(self._tasks[event.task], event.status == "done")
        self._update_whole()

    def _update_whole(self) -> None:
        self._screen.update(self._whole, completed=round(self._clock.done), note=f"{self._clock.left} left")
