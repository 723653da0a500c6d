"""Progress of a run on a screen that can be drawn over: a bar for the whole run, and a line for each task in progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from harness.runs.notes import Notes, Say
from harness.runs.progress_lines import plan_line
from harness.runs.task_texts import doing
from harness.runs.training_clock import TrainingClock, number
from harness.telemetry import events

if TYPE_CHECKING:
    from harness.execution.run_plan import RunPlan

_MAX_TASKS = 12  # lines of tasks, at most
_NARROW = 50  # columns below which there is no bar
_WIDE = 100  # columns from which a training's loss is shown, too


@dataclass
class Row:
    """A line of the screen. `total` and `completed` are in epochs; no total, no bar. `began` is on the clock of `Bars`.

    `epoch` is that of a derivation that trains; 0 before its first one ends.
    """

    text: str
    began: float
    total: float = 0.0
    completed: float = 0.0
    loss: float | None = None
    accuracy: float = 0.0
    epoch: int = 0


class Bars:
    """Keeps what is shown of a run, and prints what is worth a line. Draws nothing itself."""

    def __init__(self, plan: RunPlan, say: Say, now: Callable[[], float] = time.monotonic) -> None:
        self._tasks, self._say, self._now = plan.tasks, say, now
        self._notes = Notes(say)
        self._clock = TrainingClock(now)
        self._rows: dict[str, Row] = {}
        self._planned = self._ended = 0

    def show(self, event: events.Event) -> None:
        """Change the screen; what is worth a line appears above it."""
        self._notes.show(event)
        if isinstance(event, events.RunPlanned):
            self._clock.plan(event.epochs)
            self._planned, self._ended = event.tasks, 0
            self._rows.clear()
            self._say(plan_line(event))
        elif isinstance(event, events.TaskStarted):
            self._rows[event.task] = Row(doing(event, self._tasks.get(event.task)), self._now())
        elif isinstance(event, events.TrainingStarted):
            began = self._now()
            self._rows[event.task] = Row(doing(event, self._tasks.get(event.task)), began, event.until, event.epoch)
        elif isinstance(event, events.EpochEnded):
            self._show_epoch(event)
        elif isinstance(event, events.DerivationEpochEnded):
            row = self._rows.get(event.task)
            if row is not None:
                row.epoch = event.epoch
        elif isinstance(event, events.TaskEnded):
            self._show_end(event)

    @property
    def task_in_progress(self) -> bool:
        """Whether there is a task to show."""
        return bool(self._rows)

    def _show_epoch(self, event: events.EpochEnded) -> None:
        self._clock.epoch(self._tasks[event.task], event.epoch)
        row = self._rows.get(event.task)
        if row is not None:
            row.completed, row.loss, row.accuracy = event.epoch, event.loss, event.accuracy

    def _show_end(self, event: events.TaskEnded) -> None:
        self._rows.pop(event.task, None)
        self._ended += event.kind != "check"
        if event.taken_over:
            self._clock.taken_over(self._tasks[event.task])
        elif event.kind in ("train", "derive"):
            self._clock.ended(self._tasks[event.task], event.status == "done")

    def lines(self, width: int, *, ascii_only: bool = False) -> Group:
        """Return what the screen shows, at most `width` columns wide."""
        rows = list(self._rows.values())  # a copy: the screen is refreshed by a thread of its own
        whole = f"{self._ended} of {self._planned} tasks"
        lines = [_Line(whole, (self._clock.done, self._clock.total), self._count(), self._left())]
        for row in rows[:_MAX_TASKS]:
            share = (row.completed, row.total)
            count = f"{number(row.completed)}/{number(row.total)}" if row.total else ""
            lines.append(_Line(row.text, share, count, self._note(row, width)))
        if len(rows) > _MAX_TASKS:
            lines.append(_Line(f"and {len(rows) - _MAX_TASKS} more", (0.0, 0.0), "", ""))
        signs = ("#", ".") if ascii_only else ("━", "─")
        return Group(_fitted(lines, width, signs))  # a console rewraps a text alone, but not one in a group

    def _count(self) -> str:
        return f"{round(self._clock.done)}/{round(self._clock.total)} epochs" if self._clock.total else ""

    def _left(self) -> str:
        """Return the time that training will take; nothing once only other tasks are left."""
        return f"{self._clock.left} left" if self._clock.done < self._clock.total else ""

    def _note(self, row: Row, width: int) -> str:
        """Return the accuracy of a training, or how long another task has taken."""
        if row.loss is None:
            minutes, seconds = divmod(int(self._now() - row.began), 60)
            reached = f"epoch {row.epoch}  " if row.epoch else ""
            return f"{reached}{minutes}:{seconds:02d}"
        accuracy = f"{row.accuracy:.1f} %"
        return f"loss {row.loss:.3f}  accuracy {accuracy}" if width >= _WIDE else accuracy


@dataclass(frozen=True)
class _Line:
    """A line as texts: what, (completed, total) of its bar, how far in numbers, and a note."""

    text: str
    share: tuple[float, float]
    count: str
    note: str


def _fitted(lines: Sequence[_Line], width: int, signs: tuple[str, str]) -> Text:
    """Return lines that are at most `width` columns wide: the text is cut, all else is shown in full."""
    bar = min(24, width // 6) if width >= _NARROW else 0
    count = max(cell_len(line.count) for line in lines)
    note = max(cell_len(line.note) for line in lines)
    text = max(8, width - bar - count - note - 4)  # three spaces between columns, and the last column stays empty
    shown = Text(no_wrap=True, overflow="ellipsis")
    for line in lines:
        if line.share[1]:
            shown.append(f"{_sized(line.text, text)} ")
            _append_bar(shown, line.share, bar, signs)
            shown.append(f" {_sized(line.count, count)} ")
        else:
            shown.append(f"{_sized(line.text, text + bar + count + 2)} ")
        shown.append(" " * (note - cell_len(line.note)) + line.note + "\n")
    shown.right_crop()  # the last line's end
    return shown


def _append_bar(shown: Text, share: tuple[float, float], width: int, signs: tuple[str, str]) -> None:
    completed, total = share
    full = int(width * min(1.0, completed / total))
    shown.append(signs[0] * full, style="bar.complete")
    shown.append(signs[1] * (width - full), style="bar.back")


def _sized(text: str, width: int) -> str:
    """Return a text that is `width` columns wide; an ellipsis stands for what was cut."""
    if cell_len(text) > width:
        text = set_cell_size(text, width - 1).rstrip() + "…"
    return set_cell_size(text, width)
