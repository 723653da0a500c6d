"""Run a benchmark in a folder: plan, open the store and the engine, do the tasks, write the results.

`harness run`, `harness.run` and the pytest plugin all call `run_benchmark`.
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
from harness.errors import DeviceBroken, Interrupted, RunStopped, UserError
from harness.execution.annotator import EventAnnotator
from harness.execution.context import RunContext
from harness.execution.device import precision_on, resolve_device
from harness.execution.earlier_run import keep_earlier_run
from harness.execution.rows import failures, members, rows
from harness.execution.run_folder import open_folder
from harness.execution.run_plan import RunPlan
from harness.execution.run_state import RunState
from harness.execution.runner import Runner
from harness.files import write_atomically
from harness.leaderboard import board, render
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue, Observer
from harness.results.rows import load_rows
from harness.store import Store
from harness.telemetry.event_log import EventLog
from harness.telemetry.events import RunEnded, RunStarted
from harness.telemetry.provenance import provenance
from harness.telemetry.stepping_summary import SteppingSummary
from harness.telemetry.stopwatch import Stopwatch

Status = Literal["done", "failed", "interrupted"]
Observers = Callable[[RunPlan], AbstractContextManager[Mapping[str, Observer]]]
"""Returns a context manager of a run's observers by name. It is entered when the run begins, and exited when it ends."""


def _never() -> bool:
    return False


def _silent(line: str) -> None:
    pass


@contextlib.contextmanager
def _no_observers(plan: RunPlan) -> Iterator[Mapping[str, Observer]]:
    yield {}


@dataclass(frozen=True)
class RunSettings:
    """How and where a benchmark is run.

    Rows and board are written to `folder`, computed objects to `store`. `data` is the data root. `stopping()` is called after
    every training step, and is True once the run must save and stop. `say` is called with lines for the user. `command` is the
    command line that `run.json` records.
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
    """A run that has ended: done, with failed cells, or interrupted. Whatever was computed is on disk.

    `stepping` says how the steps of its trainings were taken.
    """

    folder: Path
    graph: Graph
    state: RunState
    store: Store
    status: Status
    stepping: SteppingSummary

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The failed cells with the reasons, each reason once per cell."""
        return failures(self.graph, self.state)


def run_benchmark(
    benchmark: Benchmark, catalogue: Catalogue, settings: RunSettings, watch: Stopwatch | None = None
) -> FinishedRun:
    """Compute what the store lacks of a benchmark; write rows, board and `run.json` to the run's folder.

    Raise `UserError` for a mistake that is found before the run begins, such as a missing device or a folder in use. Raise
    its subclass `RunStopped` if the store, the folder or the last device fails during the run; what was computed before is on
    disk.
    """
    watch = watch or Stopwatch("starting")
    device, precision = _device_and_precision(benchmark, settings)
    if benchmark.leaves_precision_open and precision != "fp32":
        settings.say(f"precision: {precision}, which this device has; recipe.precision fixes it")
    with contextlib.ExitStack() as opened:
        opened.enter_context(open_folder(settings.folder))
        with watch("planning"):
            graph = plan(benchmark.located(settings.data), precision)
        with watch("store"):
            store = opened.enter_context(_opened_store(settings))
        moved = keep_earlier_run(settings.folder, rows(graph, RunState()))
        if moved:
            settings.say(moved)
        run_plan = RunPlan(graph)
        stepping = SteppingSummary()
        with (
            settings.observers(run_plan) as observers,
            _event_log(settings, run_plan, {**observers, **catalogue.observers, "summary of steps": stepping}) as log,
        ):
            watch.turn("other")
            context = RunContext(catalogue, store.root, settings.data, device, log, settings.stopping, settings.threads, watch)
            runner = Runner(run_plan, store, settings.engine, context, settings.folder)
            try:
                status = _run(runner, settings, stepping)
            finally:
                log(watch.phases())
    return FinishedRun(settings.folder, graph, runner.state, store, status, stepping)


@contextlib.contextmanager
def _opened_store(settings: RunSettings) -> Iterator[Store]:
    """Open the store for this run within the block."""
    store = Store(settings.store)
    store.prepare()
    if store.lock_problem:
        settings.say(f"warning: store {store.root}: {store.lock_problem}; until this run ends no other one may use it")
    with store.registered(str(settings.folder.absolute()), settings.say):
        yield store


def _device_and_precision(benchmark: Benchmark, settings: RunSettings) -> tuple[str, Literal["fp32", "bf16"]]:
    """Return the device of the workers, and what `precision: auto` means on it."""
    device = settings.engine.device_for(settings.device)
    if device is None:
        device = resolve_device(settings.device)
        return device, precision_on(device)
    if benchmark.leaves_precision_open and device.startswith("cuda"):
        where = f"engine '{settings.engine.name}': recipe.precision is 'auto', and the GPUs are those of other machines"
        raise UserError(f"{where}; name it: --set recipe.precision=bf16 (compute capability 8.0 or higher) or fp32")
    return device, "fp32"


def _run(runner: Runner, settings: RunSettings, stepping: SteppingSummary) -> Status:
    """Run, and return the status. Write `run.json` and the board at the beginning and at the end, also after an error."""
    emit, watch = runner.context.emit, runner.context.watch
    name = runner.graph.benchmark.name
    emit(RunStarted(benchmark=name, command=tuple(settings.command)))
    status: Status = "interrupted"
    try:
        runner.begin()
        with watch("board"):
            _write(runner, settings, "running", stepping)
        runner.run()
        status = "failed" if failures(runner.graph, runner.state) else "done"
    except Interrupted:
        pass
    except (UserError, DeviceBroken) as error:
        with contextlib.suppress(UserError):  # the disk may be full
            _write(runner, settings, status, stepping)
        raise RunStopped(str(error)) from error
    finally:
        emit(RunEnded(status=status))
    with watch("board"):
        _write(runner, settings, status, stepping)
    return status


def _write(runner: Runner, settings: RunSettings, status: str, stepping: SteppingSummary) -> None:
    """Write `run.json` and `leaderboard.md` to the run's folder, and `examples.npz` unless the run has only begun."""
    folder, graph, state = runner.out, runner.graph, runner.state
    plugins = [source.to_json() for source in runner.context.catalogue.sources]
    facts = {
        "benchmark": graph.benchmark.resolved(),
        "status": status,
        "failures": failures(graph, state),
        "epochs_trained": state.trained,
        "epochs_taken_over": state.epochs_taken_over,
        "tasks_taken_over": state.taken_over,
        "store": str(runner.store.root.resolve()),
        "device": runner.context.device,
        "threads": settings.threads,
        "stepping": stepping.to_json(),
        "command": list(settings.command),
        "provenance": {**provenance(), "plugins": plugins},
        "members": members(graph),
    }
    write_atomically(folder / "run.json", json.dumps(facts, indent=1))
    write_atomically(folder / "leaderboard.md", render(board({str(folder): load_rows(folder)}), "markdown"))
    if status != "running":
        runner.write_examples()


@contextlib.contextmanager
def _event_log(settings: RunSettings, plan: RunPlan, observers: Mapping[str, Observer]) -> Iterator[EventLog]:
    """Open the event log within the block; tell the user at the end if events could not be written."""
    path = settings.folder / "events.jsonl"
    log = EventLog(path, observers, EventAnnotator(plan, settings.folder))
    try:
        yield log
    finally:
        log.close()
        if log.trouble:
            settings.say(f"warning: {path}: events are missing: {log.trouble}")
