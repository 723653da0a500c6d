"""Probes: tasks that need no benchmark. They try an engine and what its workers see."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.api.engine import EngineContext
from harness.api.specs import ProbeSpec
from harness.api.task import Outcome, Task, key_of
from harness.execution.code_version import current_code_version
from harness.execution.context import RunContext
from harness.execution.task_files import task_json
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.events import Event


def stored_probe(store: Store, seconds: float = 0.0) -> Task:
    """Write a new probe into a store and return it. A worker needs `seconds` for it."""
    token = secrets.token_hex(16)
    spec = ProbeSpec(token=token, lease=key_of(["lease", token]), seconds=seconds)
    task = Task(key_of(spec.to_json()), spec, (), "probe")
    store.write_task(task.key, task_json(task))
    return task


def probe_context(
    catalogue: Catalogue,
    folder: Path,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
    *,
    store: Path | None = None,
    data: Path | None = None,
    device: str = "cpu",
) -> EngineContext:
    """Return the context of an engine that does probes. The store and the data root are in `folder`, unless they are given."""
    store = store or folder / "store"
    data = data or folder / "data"

    def run_here(group: Sequence[Task]) -> Sequence[Outcome]:
        from harness.execution.batching import GroupRunner

        return GroupRunner(RunContext(catalogue, store, data, device, emit, stopping)).run(group)

    return EngineContext(
        store=store,
        data=data,
        folder=folder,
        device=device,
        emit=emit,
        stopping=stopping,
        run_here=run_here,
        code=current_code_version(catalogue.problems).to_json(),
    )
