"""`harness run`: compute what is missing, write the run's folder, print the board."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.arguments import data_option, file_argument, open_benchmark, set_option, store_option
from harness.cli.durations import Duration
from harness.cli.engine_options import parse_engine_options
from harness.cli.paths import UserPath
from harness.errors import RunStopped
from harness.execution.device import parse_device
from harness.execution.stopping import Stopper
from harness.leaderboard import board
from harness.results.rows import read_rows
from harness.runs.start import RunOptions, start
from harness.telemetry.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harness.execution.run_benchmark import FinishedRun
    from harness.execution.run_state import RunState

_MAX_CELLS = 3  # named per reason of failures


@click.command()
@file_argument
@click.option("--out", metavar="DIR", type=UserPath(), help="Where to write rows and board; default: runs/NAME.")
@store_option
@data_option
@click.option(
    "--engine", "engine_name", metavar="NAME", default="local", show_default=True, help="The engine that runs the tasks."
)
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
    help="End a task that reports nothing (an epoch, its end) for so long; default: never.",
)
@click.option(
    "--time-limit",
    metavar="DURATION",
    type=Duration(),
    help="Stop cleanly before this time has passed (25m, 1h30m); the same command continues.",
)
@click.option(
    "--observe",
    metavar="NAME",
    multiple=True,
    help="Let an observer follow the run, such as a logger (`harness list observer`); may be repeated.",
)
@click.option("--profile", is_flag=True, help="Write where the time went to DIR/profile.json.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="CPU threads of each task.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:INDEX", help="Where to compute.")
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
    observe: tuple[str, ...],
    profile: bool,
    threads: int,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Run a benchmark: train what is missing, measure, and print the board.

    What this run or another one on the same store has computed is not computed again. After an interruption the same command
    continues.
    """
    parse_device(device)
    watch = Stopwatch("starting")
    with Stopper(limit=time_limit) as stopper:
        benchmark, catalogue = open_benchmark(file, overrides)  # before torch is imported, so that mistakes are reported fast
        options = RunOptions(
            out=out,
            store=store,
            data=data,
            engine=engine_name,
            engine_options=parse_engine_options(engine_options),
            workers=workers,
            task_timeout=task_timeout,
            observe=observe,
            profile=profile,
            threads=threads,
            device=device,
        )
        try:
            finished = start(benchmark, catalogue, options, stopper, _warn, watch)
        except RunStopped:
            _warn(f"stopped; what was computed before is saved. To go on, once that is fixed:\n  {_typed_command()}")
            raise
    sys.exit(_report(finished, stopper))


def _warn(line: str) -> None:
    click.echo(line, err=True)


def _report(finished: FinishedRun, stopper: Stopper) -> int:
    """Print how the run ended, and return the exit code."""
    if finished.status == "interrupted":
        _warn(f"{stopper.reason}; what was computed is saved. To go on:\n  {_typed_command()}")
        return stopper.exit_code
    state = finished.state
    click.echo(_board(finished.folder))
    if not state.done and not state.taken_over and not finished.failures:
        click.echo(f"nothing to train: all {len(finished.graph.tasks)} tasks were in the store")
    else:
        done = f"did {state.done} tasks, {state.trained:g} epochs of training"
        click.echo(f"{done}{_taken_over(state)}; rows and board are in {finished.folder}")
    steps = finished.stepping.sentence()
    if steps:
        click.echo(steps)
    _print_failures(finished)
    return 1 if finished.status == "failed" else 0


def _taken_over(state: RunState) -> str:
    """Return what another run on the store did meanwhile, to follow what this run did."""
    if not state.taken_over:
        return ""
    return f"; took over {state.taken_over} tasks, {state.epochs_taken_over:g} epochs of training, from another run"


def _board(folder: Path) -> str:
    """Return the board in markdown, fitted to the terminal if standard output is one."""
    if not sys.stdout.isatty():
        return (folder / "leaderboard.md").read_text(encoding="utf-8")
    from harness.leaderboard.terminal import render_fitted

    width = shutil.get_terminal_size().columns
    return render_fitted(board({str(folder): read_rows(folder)}), width)


def _print_failures(finished: FinishedRun) -> None:
    """Print each reason once, with its first cells and the file of a traceback."""
    for message, cells in _by_message(finished.failures).items():
        _warn(f"failed: {message}")
        names = ["{dataset} × {architecture}, {method}, seed {seed}".format(**cell) for cell in cells[:_MAX_CELLS]]
        more = f" and {len(cells) - _MAX_CELLS} more cells" if len(cells) > _MAX_CELLS else ""
        _warn(f"  in {'; '.join(names)}{more}")
        for cell in cells:
            traceback = finished.store.failure(cell["key"])
            if traceback:
                _warn(f"  traceback: {traceback}")
                break


def _by_message(failures: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in failures:
        found.setdefault(cell["message"], []).append(cell)
    return found


def _typed_command() -> str:
    """Return the command line that started this process."""
    program = Path(sys.argv[0]).name
    if program == "__main__.py":
        program = "harness"
    return shlex.join([program, *sys.argv[1:]])
