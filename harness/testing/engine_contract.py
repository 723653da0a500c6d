"""The contract of engines: real workers do tasks that need no benchmark (probes)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.api.engine import Engine
from harness.api.task import Outcome, Task
from harness.errors import Interrupted
from harness.execution.engines.worker_pool import GRACE_SECONDS
from harness.execution.probes import probe_context, stored_probe
from harness.registry.catalogue import Catalogue, load_catalogue
from harness.store import Store
from harness.telemetry.events import Event, TaskRetried, WorkerDescribed, WorkerStarted

KillWorker = Callable[[WorkerStarted], None]
"""Kills a worker without a chance to save, as SIGKILL does."""

_LONG = 3600.0  # seconds of a probe that does not end by itself
_SHORT = 3.0  # seconds of a probe that is killed meanwhile


def check_engine(
    engine: type[Engine], folder: Path, options: Mapping[str, Any] | None = None, kill_worker: KillWorker | None = None
) -> None:
    """Check that an engine returns one outcome per task, stops when it is asked to, and can be closed twice and opened again.

    `options` are those of the engine, `folder` is for a store and the engine's files. With `kill_worker`, a task whose worker
    is killed must be tried once more, and fail the second time. An engine with an option `task_timeout` must end a silent task.
    """
    _check_options(engine)
    trial = _Trial(folder)
    chosen = dict(options or {})
    tested = engine(engine.Options(**chosen))
    _check_outcomes(tested, trial)
    _check_stop(tested, trial)
    if kill_worker is not None:
        _check_death(tested, trial, kill_worker)
    if "task_timeout" in engine.Options.model_fields:
        _check_timeout(engine(engine.Options(**{**chosen, "task_timeout": 1.0})), trial)


class _Trial:
    """A store with probes, and what a run sees of an engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalogue: Catalogue = load_catalogue()
        self.store = Store(folder / "store")
        self.store.prepare()
        self.events: list[Event] = []
        self.stop = False
        self.on_event: Callable[[Event], None] = _ignore

    def open(self, engine: Engine) -> None:
        """Open an engine for a new run."""
        self.events.clear()
        self.stop = False
        self.on_event = _ignore
        engine.open(probe_context(self._catalogue, self._folder, self._emit, lambda: self.stop))

    def seen(self, kind: type[Event]) -> list[Event]:
        """Return the events of a class."""
        return [event for event in self.events if isinstance(event, kind)]

    def worker_of(self, described: WorkerDescribed) -> WorkerStarted:
        """Return the start of the worker that described itself."""
        for event in self.events:
            if isinstance(event, WorkerStarted) and (event.place, event.process) == (described.place, described.process):
                return event
        raise AssertionError("a worker that did a task was not reported as started")

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)


def _ignore(event: Event) -> None:
    pass


def _check_options(engine: type[Engine]) -> None:
    for name, field in engine.Options.model_fields.items():
        assert not field.is_required(), f"{engine.name}: option {name} has no default"
        assert field.description, f"{engine.name}: option {name} has no description"


def _check_outcomes(engine: Engine, trial: _Trial) -> None:
    """Submit more groups than the engine takes at once; then close it twice."""
    groups = [[stored_probe(trial.store) for _ in range(size)] for size in (1, 3, 2, 1)]
    keys = [task.key for group in groups for task in group]
    trial.open(engine)
    try:
        size = engine.group_size(3, 1)
        assert size in (1, 2, 3), f"{engine.name}: group_size(3, 1) is {size!r}; 1 to 3 is expected"
        ended = _run(engine, groups)
    finally:
        engine.close()
    assert Counter(outcome.key for outcome in ended) == Counter(keys), f"{engine.name}: not one outcome per task"
    failed = [outcome.message for outcome in ended if outcome.status != "done"]
    assert not failed, f"{engine.name}: {failed[0]}"
    described = Counter(event.task for event in trial.seen(WorkerDescribed) if isinstance(event, WorkerDescribed))
    assert described == Counter(keys), f"{engine.name}: a worker's events are missing, or a task was done twice"
    engine.close()


def _run(engine: Engine, groups: Sequence[Sequence[Task]]) -> list[Outcome]:
    """Submit groups as the runner does; return all outcomes."""
    waiting = list(groups)
    ended: list[Outcome] = []
    count = sum(len(group) for group in groups)
    while len(ended) < count:
        while waiting and engine.has_capacity:
            engine.submit(waiting.pop(0))
        outcomes = engine.wait()
        assert outcomes, f"{engine.name}: wait returned no outcome"
        ended += outcomes
    return ended


def _check_stop(engine: Engine, trial: _Trial) -> None:
    """Ask for a stop while a task runs."""
    trial.open(engine)

    def stop(event: Event) -> None:
        trial.stop |= isinstance(event, WorkerDescribed)

    trial.on_event = stop
    try:
        outcomes = _run(engine, [[stored_probe(trial.store, _LONG)]])
        raise AssertionError(f"{engine.name}: wait returned {outcomes} instead of raising Interrupted")
    except Interrupted:
        began = time.monotonic()
    finally:
        engine.close()
    seconds = time.monotonic() - began
    assert seconds < GRACE_SECONDS, f"{engine.name}: close took {seconds:.0f} seconds with a worker that could stop"


def _check_death(engine: Engine, trial: _Trial, kill_worker: KillWorker) -> None:
    """Kill the worker of a task once, and that of another task each time."""
    survivor, victim = (stored_probe(trial.store, _SHORT) for _ in range(2))
    deaths = {survivor.key: 1, victim.key: 2}

    def kill(event: Event) -> None:
        if isinstance(event, WorkerDescribed) and deaths[event.task]:
            deaths[event.task] -= 1
            kill_worker(trial.worker_of(event))

    trial.open(engine)
    trial.on_event = kill
    try:
        ended = {outcome.key: outcome for outcome in _run(engine, [[survivor], [victim]])}
    finally:
        engine.close()
    assert ended[survivor.key].status == "done", f"{engine.name}: a task whose worker died was not tried once more"
    assert ended[victim.key].status == "failed", f"{engine.name}: a task whose worker died twice did not fail"
    assert len(trial.seen(TaskRetried)) == 2, f"{engine.name}: a second try was not reported"


def _check_timeout(engine: Engine, trial: _Trial) -> None:
    """Do a task that says nothing for longer than the timeout."""
    trial.open(engine)
    try:
        (outcome,) = _run(engine, [[stored_probe(trial.store, _LONG)]])
    finally:
        engine.close()
    assert outcome.status == "failed", f"{engine.name}: a task that said nothing ended as {outcome.status}"
    assert "no sign of life" in outcome.message, f"{engine.name}: {outcome.message}"
