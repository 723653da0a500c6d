"""A benchmark → a finished run in a folder: the one place that plans, opens store and engine, runs, and writes what there is.

The command line, the pytest plugin and Python users run benchmarks through `run_benchmark`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.api.engine import Engine
from harness.benchmark import Benchmark
from harness.errors import Interrupted, RunStopped, UserError
from harness.execution.annotator import EventAnnotator
from harness.execution.context import RunContext
from harness.execution.device import precision_on, resolve_device
from harness.execution.earlier_run import keep_earlier_run
from harness.execution.rows import failures, members, rows
from harness.execution.run_folder import open_folder
from harness.execution.run_state import RunState
from harness.execution.runner import Runner
from harness.files import write_atomically
from harness.leaderboard import board, render
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue, Observer
from harness.results.rows import read_rows
from harness.store import Store
from harness.telemetry.event_log import EventLog
from harness.telemetry.events import RunEnded, RunStarted
from harness.telemetry.provenance import provenance
from harness.telemetry.stopwatch import Stopwatch

Status = Literal["done", "failed", "interrupted"]
Observers = Callable[[Graph], AbstractContextManager[Mapping[str, Observer]]]
"""Given the graph, the observers of a run by name, for as long as it lasts."""


def _never() -> bool:
    return False


def _silent(line: str) -> None:
    pass


@contextlib.contextmanager
def _no_observers(graph: Graph) -> Iterator[Mapping[str, Observer]]:
    yield {}


@dataclass(frozen=True)
class RunSettings:
    """How and where a benchmark is run. Nothing here changes a result.

    `folder` gets the rows and the board, `store` keeps computed objects, `data` holds the data sets. `stopping` is asked after
    every step; `say` gets lines for the user; `command` is what `run.json` says the run was started with.
    """

    folder: Path
    store: Path
    data: Path
    engine: Engine
    device: str = "auto"
    threads: int = 1
    stopping: Callable[[], bool] = _never
    say: Callable[[str], None] = _silent
    observers: Observers = _no_observers
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended: all of it done, some cells failed, or interrupted with everything computed on disk."""

    folder: Path
    graph: Graph
    state: RunState
    store: Store
    status: Status

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The cells that failed, each reason once."""
        return failures(self.graph, self.state)


def run_benchmark(
    benchmark: Benchmark, catalogue: Catalogue, settings: RunSettings, watch: Stopwatch | None = None
) -> FinishedRun:
    """Do what the store lacks of a benchmark, and keep rows, board and `run.json` in a folder up to date.

    Raise `UserError` for what the user can fix before anything is done (a device that is not there, a folder in use), and its
    subclass `RunStopped` if the store or the folder takes no more; what was computed before is on disk then.
    """
    watch = watch or Stopwatch("starting")
    device = resolve_device(settings.device)
    precision = precision_on(device)
    if benchmark.leaves_precision_open and precision != "fp32":
        settings.say(f"precision: {precision}, which this device has; recipe.precision fixes it")
    with open_folder(settings.folder):
        with watch("planning"):
            graph = plan(benchmark.located(settings.data), precision)
        with watch("store"):
            store = Store(settings.store)
            store.prepare()
        moved = keep_earlier_run(settings.folder, rows(graph, RunState()))
        if moved:
            settings.say(moved)
        with settings.observers(graph) as observers, _event_log(settings, graph, {**observers, **catalogue.observers}) as log:
            watch.turn("other")
            context = RunContext(catalogue, store.root, settings.data, device, log, settings.stopping, settings.threads, watch)
            runner = Runner(graph, store, settings.engine, context, settings.folder)
            try:
                status = _run(runner, settings)
            finally:
                log(watch.phases())
    return FinishedRun(settings.folder, graph, runner.state, store, status)


def _run(runner: Runner, settings: RunSettings) -> Status:
    """Run, and write what there is beside the rows when it begins and when it ends, however it ends; return the status."""
    emit, watch = runner.context.emit, runner.context.watch
    name = runner.graph.benchmark.name
    emit(RunStarted(benchmark=name, command=tuple(settings.command)))
    status: Status = "interrupted"
    try:
        runner.begin()
        with watch("board"):
            _write(runner, settings, "running")
        runner.run()
        status = "failed" if failures(runner.graph, runner.state) else "done"
    except Interrupted:
        pass
    except UserError as error:
        with contextlib.suppress(UserError):  # the disk may be full
            _write(runner, settings, status)
        raise RunStopped(str(error)) from error
    finally:
        emit(RunEnded(status=status))
    with watch("board"):
        _write(runner, settings, status)
    return status


def _write(runner: Runner, settings: RunSettings, status: str) -> None:
    """Write `run.json` and `leaderboard.md` beside the rows."""
    folder, graph, state = runner.out, runner.graph, runner.state
    plugins = [source.to_json() for source in runner.context.catalogue.sources]
    facts = {
        "benchmark": graph.benchmark.resolved(),
        "status": status,
        "failures": failures(graph, state),
        "epochs_trained": state.trained,
        "store": str(runner.store.root.resolve()),
        "device": runner.context.device,
        "command": list(settings.command),
        "provenance": {**provenance(), "plugins": plugins},
        "members": members(graph),
    }
    write_atomically(folder / "run.json", json.dumps(facts, indent=1))
    write_atomically(folder / "leaderboard.md", render(board({str(folder): read_rows(folder)}), "markdown"))


@contextlib.contextmanager
def _event_log(settings: RunSettings, graph: Graph, observers: Mapping[str, Observer]) -> Iterator[EventLog]:
    """Open the event log, and say at the end if it could not be written."""
    path = settings.folder / "events.jsonl"
    log = EventLog(path, observers, EventAnnotator(graph, settings.folder))
    try:
        yield log
    finally:
        log.close()
        if log.trouble:
            settings.say(f"warning: {path}: events are missing: {log.trouble}")
