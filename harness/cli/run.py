"""`harness run`: does what is missing, writes DIR, prints the board."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import (
    data_folder,
    data_option,
    file_argument,
    open_benchmark,
    set_option,
    store_folder,
    store_option,
)
from harness.cli.durations import Duration
from harness.cli.engine_options import make_engine
from harness.cli.paths import UserPath
from harness.cli.progress import progress
from harness.cli.stopping import Stopper
from harness.errors import RunStopped, UserError
from harness.execution.run_folder import check_places
from harness.telemetry.profile import Profile, summarize
from harness.telemetry.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harness.execution.run_benchmark import FinishedRun
    from harness.plan.graph import Graph
    from harness.registry.catalogue import Observer


@click.command()
@file_argument
@click.option("--out", metavar="DIR", type=UserPath(), help="Where rows and board go; default: runs/NAME.")
@store_option
@data_option
@click.option("--engine", "engine_name", metavar="NAME", default="local", show_default=True, help="Who does the work.")
@click.option(
    "--engine-option",
    "engine_options",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set an option of the engine (`harness list engine`); may be repeated.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="Processes of the local engine; default: one per CUDA device or CPU core, within a container's CPU quota.",
)
@click.option(
    "--task-timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="End a task that gives no sign of life (an epoch, an end) for so long; default: never.",
)
@click.option(
    "--time-limit",
    metavar="DURATION",
    type=Duration(),
    help="Stop cleanly before so long has passed (25m, 1h30m); the same command goes on.",
)
@click.option("--profile", is_flag=True, help="Write where the time went to DIR/profile.json.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="CPU threads of each task.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where to compute.")
@set_option
def run(
    file: Path,
    out: Path | None,
    store: Path | None,
    data: Path | None,
    engine_name: str,
    engine_options: tuple[str, ...],
    workers: int | None,
    task_timeout: float | None,
    time_limit: float | None,
    profile: bool,
    threads: int,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Run a benchmark: train what is missing, measure, and print the board.

    What was computed before, by this or any other run on the same store, is not computed again; the same command resumes
    after an interruption.
    """
    watch = Stopwatch("starting")
    with Stopper(limit=time_limit) as stopper:
        benchmark, catalogue = open_benchmark(file, overrides)  # before torch is imported: mistakes are told at once
        folder, root, data = out or Path("runs") / benchmark.name, store_folder(store), data_folder(data)
        check_places(folder, root, data, named="" if out else benchmark.name)
        engine = make_engine(catalogue, engine_name, engine_options, {"workers": workers, "task_timeout": task_timeout})

        from harness.execution.run_benchmark import RunSettings, run_benchmark

        settings = RunSettings(
            folder=folder,
            store=root,
            data=data,
            engine=engine,
            device=device,
            threads=threads,
            stopping=stopper.stopping,
            say=_say,
            observers=partial(_observers, folder, profile),
        )
        try:
            finished = run_benchmark(benchmark, catalogue, settings, watch)
        except RunStopped:
            _say(f"stopped; what was computed before is saved. To go on, once that is fixed:\n  {_again()}")
            raise
    if finished.status == "interrupted":
        why = "time is over" if stopper.time_is_over else "interrupted"
        _say(f"{why}; what was computed is saved. To go on:\n  {_again()}")
        sys.exit(stopper.exit_code)
    _report(finished)
    sys.exit(1 if finished.status == "failed" else 0)


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextlib.contextmanager
def _observers(folder: Path, profile: bool, graph: Graph) -> Iterator[dict[str, Observer]]:
    """Show progress, and keep a profile if the user wants one."""
    kept = Profile(os.getpid()) if profile else None
    with progress(graph) as show:
        try:
            yield {"progress": show} if kept is None else {"profile": kept, "progress": show}
        finally:
            if kept is not None:
                _write_profile(folder, kept)


def _write_profile(folder: Path, profile: Profile) -> None:
    from harness.files import write_atomically

    report = profile.report(time.time())
    try:
        write_atomically(folder / "profile.json", json.dumps(report, indent=1))
    except UserError as error:  # a full disk: the run's own trouble is the one to tell
        click.echo(f"warning: {error}", err=True)
    click.echo(f"profile: {summarize(report)}", err=True)


def _report(finished: FinishedRun) -> None:
    folder, state = finished.folder, finished.state
    click.echo((folder / "leaderboard.md").read_text(encoding="utf-8"))
    failed = finished.failures
    if not state.done and not failed:
        click.echo(f"nothing to train: all {len(finished.graph.tasks)} tasks were in the store")
    else:
        click.echo(f"did {state.done} tasks, {state.trained:g} epochs of training; rows and board are in {folder}")
    for message, cells in _by_message(failed).items():
        click.echo(f"failed: {message}", err=True)
        more = f" and {len(cells) - 3} more cells" if len(cells) > 3 else ""
        named = ("{dataset} × {architecture}, {method}, seed {seed}".format(**cell) for cell in cells[:3])
        click.echo(f"  in {'; '.join(named)}{more}", err=True)
        kept = next((path for path in map(finished.store.failure, (cell["key"] for cell in cells)) if path), None)
        if kept:
            click.echo(f"  traceback: {kept}", err=True)


def _by_message(failed: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in failed:
        found.setdefault(cell["message"], []).append(cell)
    return found


def _again() -> str:
    """Return the command that was typed."""
    program = Path(sys.argv[0]).name
    return shlex.join(["harness" if program in ("__main__.py", "harness") else program, *sys.argv[1:]])
