"""Progress of a run where the user looks: bars on a terminal or in a notebook, lines elsewhere. Driven by events."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.runs.progress_lines import Lines
from harness.telemetry import events

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from harness.execution.run_plan import RunPlan

Show = Callable[[events.Event], None]

_NOTEBOOK_COLUMNS = 100
_NOTEBOOK_SECONDS = 0.5  # between two drawings; each is sent to the browser


@contextlib.contextmanager
def progress(plan: RunPlan) -> Iterator[Show]:
    """Yield a function that shows events."""
    if in_notebook():
        console = _notebook_console()
    else:
        console = _terminal_console()
    if console is None:
        yield Lines(plan, _say_on_standard_error).show
        return
    with _bars(plan, console) as show:
        yield show


def in_notebook() -> bool:
    """Say whether this process is the kernel of a notebook. IPython is not imported: a kernel has done so."""
    module = sys.modules.get("IPython")
    get_ipython = getattr(module, "get_ipython", None)
    if get_ipython is None:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _notebook_console() -> Console | None:
    """Return a console that draws through ipywidgets, None if they are not installed."""
    if importlib.util.find_spec("ipywidgets") is None:
        return None
    from rich.console import Console

    return Console(force_jupyter=True, width=_NOTEBOOK_COLUMNS)


def _terminal_console() -> Console | None:
    """Return standard error if it is a terminal that can draw over what it shows; without TERM nobody knows."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "").lower() in ("", "dumb", "unknown"):
        return None
    from rich.console import Console

    console = Console(stderr=True, force_jupyter=False)
    return console if console.is_interactive else None


@contextlib.contextmanager
def _bars(plan: RunPlan, console: Console) -> Iterator[Show]:
    """Yield a function that shows events as bars. Nothing is drawn before the first task begins."""
    from rich.live import Live

    from harness.runs.progress_bars import Bars

    if console.is_jupyter:
        say = _say_on_standard_error
    else:
        say = partial(console.print, markup=False, highlight=False, emoji=False, soft_wrap=True)  # above the bars

    bars = Bars(plan, say)
    of_notebook = console.is_jupyter

    def lines() -> RenderableType:
        return bars.lines(console.width, ascii_only=console.options.ascii_only)

    live = Live(
        console=console,
        get_renderable=lines,
        transient=True,
        auto_refresh=not of_notebook,  # in a notebook, a thread would catch what others print
        redirect_stdout=not of_notebook,
        redirect_stderr=not of_notebook,
    )
    drawn_at = -_NOTEBOOK_SECONDS

    def show(event: events.Event) -> None:
        nonlocal drawn_at
        bars.show(event)
        if bars.task_in_progress:
            live.start()
        if of_notebook and live.is_started and time.monotonic() - drawn_at >= _NOTEBOOK_SECONDS:
            drawn_at = time.monotonic()
            live.refresh()

    try:
        yield show
    finally:
        live.stop()


def _say_on_standard_error(line: str) -> None:
    click.echo(line, err=True)
