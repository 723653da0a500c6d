"""Try an engine with one worker: what the worker sees, and whether a run could rely on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.api.engine import Engine
from harness.api.specs import ProbeSpec
from harness.api.task import Outcome, Task
from harness.errors import HarnessError
from harness.execution.data_root import NO_DATA_ROOT
from harness.execution.probes import probe_context, stored_probe
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.events import EngineOpened, Event, RunWarning, WorkerDescribed

_CLOCK_TOLERANCE = 2.0  # seconds


@dataclass(frozen=True)
class Finding:
    """One line of the report: a subject of one word, a text, and whether something is wrong."""

    subject: str
    text: str
    is_problem: bool = False


@dataclass(frozen=True)
class EngineTrial:
    """Where and how an engine is tried. `folder` is for the engine's own files; workers must see it, and the store."""

    engine: Engine
    catalogue: Catalogue
    store: Path
    data: Path
    folder: Path
    device: str
    stopping: Callable[[], bool]


@dataclass
class _Report:
    """Findings while an engine is tried, and what its worker told."""

    say: Callable[[Finding], None]
    described: dict[str, WorkerDescribed] = field(default_factory=dict)

    def emit(self, event: Event) -> None:
        if isinstance(event, EngineOpened):
            self.say(Finding("engine", f"{event.engine}: {event.message}"))
        elif isinstance(event, RunWarning):
            self.say(Finding("warning", event.message))
        elif isinstance(event, WorkerDescribed):
            self.described[event.task] = event


def try_engine(trial: EngineTrial, say: Callable[[Finding], None]) -> None:
    """Start one worker through an engine, and report what it sees. An error of the engine is a finding, too.

    Raise `Interrupted` if `stopping` asks for it, and `StoreError` if this process cannot use the store.
    """
    store = Store(trial.store)
    store.prepare()
    trial.folder.mkdir(parents=True, exist_ok=True)
    report = _Report(say)
    task = stored_probe(store)
    assert isinstance(task.spec, ProbeSpec)
    with store.lease(task.spec.lease):
        submitted = time.time()
        try:
            outcome = _outcome(trial, task, report)
        except HarnessError as error:
            if trial.stopping():
                raise
            say(Finding("worker", str(error), is_problem=True))
            return
        received = time.time()
    described = report.described.get(task.key)
    if outcome.status != "done" or described is None:
        say(Finding("worker", outcome.message or "it did not describe itself", is_problem=True))
        return
    say(Finding("worker", f"{described.host}: {described.device}; {described.cpus}; same code, plugins included"))
    say(_lock_finding(described, store))
    say(_clock_finding(described.host, outcome.ended, submitted, received))
    say(_data_finding(described, trial.data))


def _outcome(trial: EngineTrial, task: Task, report: _Report) -> Outcome:
    context = probe_context(
        trial.catalogue,
        trial.folder,
        report.emit,
        trial.stopping,
        store=trial.store,
        data=trial.data,
        device=trial.device,
    )
    trial.engine.open(context)
    try:
        trial.engine.submit([task])
        (outcome,) = trial.engine.wait()
        return outcome
    finally:
        trial.engine.close()


def _lock_finding(described: WorkerDescribed, store: Store) -> Finding:
    """Say whether the worker has seen the lock that this process held, and what it means if not."""
    if store.lock_problem:
        problem = f"store {store.root}: {store.lock_problem}"
    elif described.lease_acquired:
        problem = f"locks of {store.root} do not reach {described.host}: it locked what this process had locked"
    else:
        return Finding("locks", f"a lock of this process in {store.root} is seen on {described.host}")
    meaning = "one run at a time may use the store, a second one is refused"
    remedy = "mount it with locks (docs/clusters.md), or use another --store"
    return Finding("locks", f"{problem}; {meaning}; {remedy}", is_problem=True)


def _clock_finding(host: str, ended: float, submitted: float, received: float) -> Finding:
    """Compare the worker's clock with this machine's, as far as the time that the task took allows."""
    ahead = max(0.0, ended - received) - max(0.0, submitted - ended)
    if abs(ahead) > _CLOCK_TOLERANCE:
        direction = "ahead" if ahead > 0 else "behind"
        text = f"{host} is {abs(ahead):.0f} seconds {direction}; results do not depend on it, times in events and profiles do"
        return Finding("clock", text, is_problem=True)
    return Finding("clock", f"that of {host} agrees")


def _data_finding(described: WorkerDescribed, data: Path) -> Finding:
    """Compare the names in both data roots."""
    where = f"{described.data_root} on {described.host}"
    here = set()
    if data != NO_DATA_ROOT and data.is_dir():
        here = {path.name for path in data.iterdir()}
    missing = sorted(here - set(described.data))
    if missing:
        text = f"{where} lacks {', '.join(missing)}, which {data} has here; copy it, or set HARNESS_DATA for the workers"
        return Finding("data", text, is_problem=True)
    return Finding("data", f"{where}: {', '.join(described.data) or 'nothing there yet'}")
