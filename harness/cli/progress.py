"""Progress of a run on the screen: rich bars on a terminal, a line now and then elsewhere. Sees events, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from harness.api.plugin import full_name

if TYPE_CHECKING:
    from rich.progress import Progress

    from harness.api.task import Task
    from harness.plan.graph import Graph

Show = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]

_EVERY_SECONDS = 60.0  # a log gets a line so often while trainings are under way,
_SHARES = 20  # and one for each of so many equal shares of the run's epochs
_NOTES = 20  # lines about single tasks (failures, retries) of one kind; the event log has them all


def _say_on_standard_error(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def progress(graph: Graph) -> Iterator[Show]:
    """Yield a function that shows events."""
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
    """Say whether standard error is a terminal that can draw over what it shows; without TERM nobody knows."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


class Clock:
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
        first, last = task.spec["from"]["epoch"], task.spec["epoch"]
        self._under_way[task.key] = task.cost * (epoch - first) / max(1, last - first)

    def ended(self, task: Task, done: bool) -> None:
        """Note that a training has ended."""
        self._under_way.pop(task.key, None)
        if done:
            self._done += task.cost

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
        return f"{_number(self.done)} of {_number(self.total)} epochs, {self.left} left"


def describe(task: Task) -> str:
    """Return in words what a task is."""
    spec = task.spec
    where = f"{full_name(spec['setting']['architecture'])} on {full_name(spec['setting']['dataset'])}"
    if task.kind != "train":
        return f"{task.kind} {full_name(spec['metric']) + ' ' if task.kind == 'measure' else ''}{where}"
    trajectory = spec["trajectory"]
    _, seed, member = trajectory["order"]
    objective = full_name(trajectory["objective"]).replace("_", "-")
    rate = trajectory["constant_learning_rate"]
    constant = "" if rate is None else f", constant learning rate {rate:g}"
    return f"{where}, seed {seed} member {member}, {objective}{constant}"


class Lines:
    """Plain lines for a log: at the start, once a minute or every few per cent, and for what is unusual."""

    def __init__(self, graph: Graph, say: Say = _say_on_standard_error, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks, self._say, self._now = ChainMap(graph.tasks, graph.checks), say, now
        self._clock = Clock(now)
        self._last: dict[str, dict[str, Any]] = {}
        self._notes: Counter[str] = Counter()
        self._failures: set[str] = set()
        self._planned = self._ended = 0
        self._said_at = now()
        self._said_shares = 0

    def show(self, event: dict[str, Any]) -> None:
        """Print what is worth a line."""
        kind = event["event"]
        if kind == "planned":
            self._plan(event)
        elif kind == "engine_opened":
            self._say(f"{event['engine']} engine: {event['message']}")
        elif kind == "epoch":
            self._epoch(event)
        elif kind == "set_aside":
            self._note(kind, f"{event['message']}; set aside at {event['path']} and computed again")
        elif kind == "warning":
            self._note(kind, f"warning: {event['message']}")
        elif kind in ("waiting", "out_of_memory", "tried_again"):
            prefix = "waiting: " if kind == "waiting" else ""
            self._note(kind, f"{prefix}{describe(self._tasks[event['task']])}: {event['message']}")
        elif kind == "observer_failed":
            self._say(f"observer {event['observer']} failed and is left out: {event['message']}")
        elif kind == "task_ended":
            self._end(event)

    def _plan(self, event: dict[str, Any]) -> None:
        self._clock.plan(event["epochs"])
        self._planned, self._ended = event["tasks"], 0
        self._said_at, self._said_shares = self._now(), 0
        self._say(f"{event['cells']} cells: {event['tasks']} tasks to do, {_number(event['epochs'])} epochs to train")

    def _epoch(self, event: dict[str, Any]) -> None:
        task = self._tasks[event["task"]]
        self._clock.epoch(task, event["epoch"])
        self._last[task.key] = event
        if self._minute_is_over():
            where = f"epoch {event['epoch']} of {task.spec['epoch']}"
            self._say_progress(f"training {describe(task)}, {where}{_facts(event)} ({self._clock.describe()})")

    def _end(self, event: dict[str, Any]) -> None:
        task, status = self._tasks[event["task"]], event["status"]
        self._ended += task.kind != "check"
        last = self._last.pop(task.key, None)
        if task.kind == "train":
            self._clock.ended(task, status == "done")
        if status == "failed":
            message = event["message"]
            reason = "for the same reason" if message in self._failures else message
            self._failures.add(message)
            self._note("failed", f"failed: {describe(task)}: {reason}")
        elif status == "done" and task.kind == "train" and (self._share_is_done() or self._minute_is_over()):
            self._say_progress(
                f"trained {describe(task)}, to epoch {task.spec['epoch']}{_facts(last)} ({self._clock.describe()})"
            )
        elif self._minute_is_over():
            self._say_progress(f"{self._ended} of {self._planned} tasks have ended ({self._clock.describe()})")

    def _minute_is_over(self) -> bool:
        return self._now() - self._said_at >= _EVERY_SECONDS

    def _share_is_done(self) -> bool:
        return self._shares() > self._said_shares

    def _shares(self) -> int:
        """Return how many of the run's shares have been trained."""
        return int(_SHARES * self._clock.done / self._clock.total + 1e-9) if self._clock.total else 0

    def _say_progress(self, line: str) -> None:
        self._said_at, self._said_shares = self._now(), self._shares()
        self._say(line)

    def _note(self, kind: str, line: str) -> None:
        self._notes[kind] += 1
        if self._notes[kind] <= _NOTES:
            self._say(line)
        if self._notes[kind] == _NOTES:
            self._say(f"further lines of this kind ({kind}) are left out; events.jsonl in the run's folder has them all")


def _number(epochs: float) -> str:
    return f"{epochs:.1f}".removesuffix(".0")


def _facts(epoch: dict[str, Any] | None) -> str:
    return f": loss {epoch['loss']:.4f}, accuracy {epoch['accuracy']:.1f} %" if epoch else ""


class Bars:
    """A bar for the whole graph and one for each training that is under way."""

    def __init__(self, graph: Graph, screen: Progress) -> None:
        self._tasks, self._screen, self._clock = ChainMap(graph.tasks, graph.checks), screen, Clock()
        self._whole = screen.add_task("epochs", total=None, note="")
        self._bars: dict[str, Any] = {}
        say = partial(screen.console.print, markup=False, highlight=False, soft_wrap=True)  # above the bars
        self._words = Lines(graph, say)

    def show(self, event: dict[str, Any]) -> None:
        """Move the bars; what is worth a line stands above them."""
        kind = event["event"]
        if kind == "planned":
            self._clock.plan(event["epochs"])
            self._screen.update(self._whole, total=round(event["epochs"]), completed=0)
        elif kind == "train_started":
            label = describe(self._tasks[event["task"]])
            self._bars[event["task"]] = self._screen.add_task(
                label, total=event["until"], completed=int(event["epoch"]), note=""
            )
        elif kind == "epoch" and event["task"] in self._bars:
            note = f"loss {event['loss']:.3f}  accuracy {event['accuracy']:.1f} %"
            self._screen.update(self._bars[event["task"]], completed=event["epoch"], note=note)
            self._clock.epoch(self._tasks[event["task"]], event["epoch"])
            self._whole_bar()
        elif kind == "task_ended":
            self._end(event)
        elif kind in ("engine_opened", "waiting", "set_aside", "observer_failed", "out_of_memory", "tried_again", "warning"):
            self._words.show(event)

    def _end(self, event: dict[str, Any]) -> None:
        if event["task"] in self._bars:
            self._screen.remove_task(self._bars.pop(event["task"]))
        if event["status"] == "failed":
            self._words.show(event)
        if event["kind"] == "train":
            self._clock.ended(self._tasks[event["task"]], event["status"] == "done")
        self._whole_bar()

    def _whole_bar(self) -> None:
        self._screen.update(self._whole, completed=round(self._clock.done), note=f"{self._clock.left} left")
