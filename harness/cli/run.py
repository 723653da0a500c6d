"""`harness run`: does what is missing, writes DIR, prints the board."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from harness.cli.paths import UserPath
from harness.cli.progress import progress
from harness.cli.stopping import Stopper
from harness.errors import Interrupted, UserError
from harness.execution.context import RunContext
from harness.execution.earlier_run import keep_earlier_run
from harness.execution.run_folder import check_places, open_folder
from harness.telemetry.profile import Profile, summarize
from harness.telemetry.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harness.api.engine import Engine
    from harness.execution.run_state import RunState
    from harness.execution.runner import Runner
    from harness.plan.graph import Graph
    from harness.registry.catalogue import Catalogue
    from harness.store import Store
    from harness.telemetry.events import EventLog


@click.command()
@file_argument
@click.option("--out", metavar="DIR", type=UserPath(), help="Where rows and board go; default: runs/NAME.")
@store_option
@data_option
@click.option("--engine", "engine_name", metavar="NAME", default="local", show_default=True, help="Who does the work.")
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

        from harness.execution.device import precision_on, resolve_device
        from harness.execution.rows import rows
        from harness.execution.run_state import RunState
        from harness.execution.runner import Runner
        from harness.plan.planner import plan
        from harness.store import Store

        device = resolve_device(device)
        precision = precision_on(device)
        if benchmark.leaves_precision_open and precision != "fp32":
            click.echo(f"precision: {precision}, which this device has; recipe.precision fixes it", err=True)
        engine = _engine(catalogue, engine_name, {"workers": workers, "task_timeout": task_timeout})
        click.get_current_context().with_resource(open_folder(folder))  # until the command ends
        with watch("planning"):
            graph = plan(benchmark.located(data_folder(data)), precision)
        with watch("store"):
            shelf = Store(root)
            shelf.prepare()
        moved = keep_earlier_run(folder, rows(graph, RunState()))
        if moved:
            click.echo(moved, err=True)
        watching = {"profile": Profile(os.getpid())} if profile else {}
        with progress(graph) as show, _log(folder, {**watching, "progress": show, **catalogue.observers}) as log:
            watch.turn("other")
            context = RunContext(catalogue, shelf.root, data, device, log, stopper.stopping, threads, watch)
            runner = Runner(graph, shelf, engine, context, folder)
            try:
                status = _run(runner, partial(_write, folder, graph, store=shelf.root, device=device))
            finally:
                log(watch.event())
                for kept in watching.values():
                    _write_profile(folder, kept)
    if status == "interrupted":
        why = "time is over" if stopper.time_is_over else "interrupted"
        click.echo(f"{why}; what was computed is saved. To go on:\n  {_again()}", err=True)
        sys.exit(stopper.exit_code)
    _report(folder, graph, runner.ledger, shelf)
    sys.exit(1 if status == "failed" else 0)


def _run(runner: Runner, write: Callable[[RunState, str], None]) -> str:
    """Run, and write what there is beside the rows when it begins and when it ends, however it ends; return the status."""
    from harness.execution.rows import failures

    emit, watch = runner.context.emit, runner.context.watch
    emit({"event": "run_started", "time": time.time(), "benchmark": runner.graph.benchmark.name, "command": sys.argv})
    status = "interrupted"
    try:
        runner.begin()
        with watch("board"):
            write(runner.ledger, "running")
        runner.run()
        status = "failed" if failures(runner.graph, runner.ledger) else "done"
    except Interrupted:
        pass
    except UserError:
        with contextlib.suppress(UserError):  # the disk may be full
            write(runner.ledger, status)
        click.echo(f"stopped; what was computed before is saved. To go on, once that is mended:\n  {_again()}", err=True)
        raise
    finally:
        emit({"event": "run_ended", "time": time.time(), "status": status})
    with watch("board"):
        write(runner.ledger, status)
    return status


@contextlib.contextmanager
def _log(folder: Path, observers: Mapping[str, Callable[[dict[str, Any]], None]]) -> Iterator[EventLog]:
    """Open the event log, and say at the end if it could not be written."""
    from harness.telemetry.events import EventLog

    log = EventLog(folder / "events.jsonl", observers)
    try:
        yield log
    finally:
        log.close()
        if log.trouble:
            click.echo(f"warning: {folder / 'events.jsonl'}: events are missing: {log.trouble}", err=True)


def _engine(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> Engine:
    cls = catalogue.get("engine", name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in cls.Options.model_fields:
            raise UserError(f"--{key.replace('_', '-')}: engine '{name}' has no such option")
    return catalogue.create("engine", name, cls.Options.model_validate(given))


def _write(folder: Path, graph: Graph, ledger: RunState, status: str, *, store: Path, device: str) -> None:
    """Write `run.json` and `leaderboard.md` beside the rows."""
    from harness.execution.rows import failures, members
    from harness.files import write_atomically
    from harness.leaderboard import board, render
    from harness.results.rows import read_rows
    from harness.telemetry.provenance import provenance

    facts = {
        "benchmark": graph.benchmark.resolved(),
        "status": status,
        "failures": failures(graph, ledger),
        "epochs_trained": ledger.trained,
        "store": str(store.resolve()),
        "device": device,
        "command": sys.argv,
        "provenance": provenance(),
        "members": members(graph),
    }
    write_atomically(folder / "run.json", json.dumps(facts, indent=1))
    write_atomically(folder / "leaderboard.md", render(board({str(folder): read_rows(folder)}), "markdown"))


def _write_profile(folder: Path, profile: Profile) -> None:
    from harness.files import write_atomically

    report = profile.report(time.time())
    try:
        write_atomically(folder / "profile.json", json.dumps(report, indent=1))
    except UserError as error:  # a full disk: the run's own trouble is the one to tell
        click.echo(f"warning: {error}", err=True)
    click.echo(f"profile: {summarize(report)}", err=True)


def _report(folder: Path, graph: Graph, ledger: RunState, store: Store) -> None:
    click.echo((folder / "leaderboard.md").read_text(encoding="utf-8"))
    from harness.execution.rows import failures

    failed = failures(graph, ledger)
    if not ledger.done and not failed:
        click.echo(f"nothing to train: all {len(graph.tasks)} tasks were in the store")
    else:
        click.echo(f"did {ledger.done} tasks, {ledger.trained:g} epochs of training; rows and board are in {folder}")
    for message, cells in _by_message(failed).items():
        click.echo(f"failed: {message}", err=True)
        more = f" and {len(cells) - 3} more cells" if len(cells) > 3 else ""
        named = ("{dataset} × {architecture}, {method}, seed {seed}".format(**cell) for cell in cells[:3])
        click.echo(f"  in {'; '.join(named)}{more}", err=True)
        kept = next((path for path in map(store.failure, (cell["key"] for cell in cells)) if path), None)
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
