"""Progress of a run on the screen: rich bars on a terminal, plain lines elsewhere. Sees events, and nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from harness.interfaces import full_name

if TYPE_CHECKING:
    from rich.progress import Progress

    from harness.graph import Graph
    from harness.task import Task

Show = Callable[[dict[str, Any]], None]


@contextmanager
def progress(graph: Graph) -> Iterator[Show]:
    """Yield a function that shows events."""
    if not sys.stderr.isatty():
        yield Lines(graph).show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = BarColumn(bar_width=24)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), bar, MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as screen:
        yield Bars(graph, screen).show


class Clock:
    """Estimates the time left from the cost done so far, in epochs of plain training."""

    def __init__(self) -> None:
        self.total = self.done = self.under_way = 0.0
        self._began = time.monotonic()

    def plan(self, total: float) -> None:
        """Start over with the epochs to train."""
        self.total, self.done, self.under_way, self._began = total, 0.0, 0.0, time.monotonic()

    @property
    def left(self) -> str:
        """Minutes and seconds until all training is done, as far as can be told."""
        spent = self.done + self.under_way
        if spent <= 0:
            return "--:--"
        seconds = int((time.monotonic() - self._began) * max(0.0, self.total - spent) / spent)
        hours, rest = divmod(seconds, 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"


def describe(task: Task) -> str:
    """Return in words what a task is."""
    spec = task.spec
    where = f"{full_name(spec['setting']['architecture'])} on {full_name(spec['setting']['dataset'])}"
    if task.kind != "train":
        return f"{task.kind} {full_name(spec['metric']) + ' ' if task.kind == 'measure' else ''}{where}"
    trajectory = spec["trajectory"]
    _, seed, member = trajectory["order"]
    objective = full_name(trajectory["objective"]).replace("_", "-")
    held = "" if trajectory["held"] is None else f", rate held at {trajectory['held']:g}"
    return f"{where}, seed {seed} member {member}, {objective}{held}"


class Lines:
    """One plain line per training, failure, and change of plan."""

    def __init__(self, graph: Graph) -> None:
        self._tasks, self._clock = graph.tasks, Clock()
        self._last: dict[str, dict[str, Any]] = {}
        self._failures: set[str] = set()

    def show(self, event: dict[str, Any]) -> None:
        """Print what is worth a line."""
        kind = event["event"]
        if kind == "planned":
            self._clock.plan(event["epochs"])
            click.echo(f"{event['cells']} cells: {event['tasks']} tasks to do, {event['epochs']:g} epochs to train", err=True)
        elif kind == "epoch":
            self._last[event["task"]] = event
        elif kind == "engine_opened":
            click.echo(f"{event['engine']} engine: {event['message']}", err=True)
        elif kind == "waiting":
            click.echo(f"waiting: {describe(self._tasks[event['task']])}: {event['message']}", err=True)
        elif kind == "set_aside":
            click.echo(f"{event['message']}; set aside at {event['path']} and computed again", err=True)
        elif kind in ("out_of_memory", "tried_again"):
            click.echo(f"{describe(self._tasks[event['task']])}: {event['message']}", err=True)
        elif kind == "observer_failed":
            click.echo(f"observer {event['observer']} failed and is left out: {event['message']}", err=True)
        elif kind == "task_ended":
            self._ended(event)

    def _ended(self, event: dict[str, Any]) -> None:
        task = self._tasks[event["task"]]
        if event["status"] == "failed":
            message = event["message"]
            reason = "for the same reason" if message in self._failures else message
            self._failures.add(message)
            click.echo(f"failed: {describe(task)}: {reason}", err=True)
        elif event["status"] == "done" and event["kind"] == "train":
            self._clock.done += event["cost"]
            last = self._last.pop(event["task"], None)
            facts = f": loss {last['loss']:.4f}, accuracy {last['accuracy']:.1f} %" if last else ""
            done = f"{self._clock.done:g} of {self._clock.total:g} epochs, {self._clock.left} left"
            click.echo(f"trained {describe(task)}, to epoch {task.spec['epoch']}{facts} ({done})", err=True)


class Bars:
    """A bar for the whole graph and one for each training that is under way."""

    def __init__(self, graph: Graph, screen: Progress) -> None:
        self._tasks, self._screen, self._clock = graph.tasks, screen, Clock()
        self._whole = screen.add_task("epochs", total=None, note="")
        self._bars: dict[str, Any] = {}
        self._words = Lines(graph)

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
            self._clock.under_way += self._per_epoch(event["task"])
            self._whole_bar()
        elif kind == "task_ended":
            self._ended(event)
        elif kind in ("engine_opened", "waiting", "set_aside", "observer_failed", "out_of_memory", "tried_again"):
            self._words.show(event)

    def _per_epoch(self, key: str) -> float:
        spec = self._tasks[key].spec
        return self._tasks[key].cost / max(1, spec["epoch"] - spec["from"]["epoch"])

    def _ended(self, event: dict[str, Any]) -> None:
        if event["task"] in self._bars:
            self._screen.remove_task(self._bars.pop(event["task"]))
        if event["status"] == "failed":
            self._words.show(event)
        if event["status"] == "done" and event["kind"] == "train":
            self._clock.done += event["cost"]
            self._clock.under_way = max(0.0, self._clock.under_way - event["cost"])
        self._whole_bar()

    def _whole_bar(self) -> None:
        done = min(self._clock.total, self._clock.done + self._clock.under_way)
        self._screen.update(self._whole, completed=round(done), note=f"{self._clock.left} left")
