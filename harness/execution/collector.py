"""Reads the results of measurements from the store into the run's state, and quarantines damaged objects."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

from harness.api.task import Task
from harness.errors import DamagedObject
from harness.execution.context import RunContext
from harness.execution.measured_values import EXAMPLES, measured_from_json
from harness.execution.rows import place
from harness.execution.run_state import RunState
from harness.plan.graph import PlannedCell
from harness.store import Store
from harness.telemetry.events import ObjectQuarantined

MAX_DAMAGES = 3  # how often an object may turn out damaged before its cells fail


class ResultCollector:
    """Reads results of measurements, and counts how often each object turned out damaged."""

    def __init__(self, store: Store, state: RunState, context: RunContext) -> None:
        self._store, self._state, self._context = store, state, context
        self._damages: dict[str, int] = {}

    def collect(self, tasks: Iterable[Task]) -> None:
        """Read the stored results of the measurements among tasks. A damaged result is quarantined, and counts as missing."""
        for task in tasks:
            if task.kind != "measure" or task.key in self._state.measured or not self._store.present(task.key):
                continue
            try:
                self._state.measured[task.key] = measured_from_json(self._store.meta(task.key))
            except DamagedObject as error:
                self._quarantine(task.key, str(error))
            except ValueError:
                self._quarantine(task.key, f"object {task.key[:12]} holds no measured values")

    def examples(self, keys: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the key and the stored examples of measurements that have them. A damaged measurement is quarantined."""
        for key in keys:
            try:
                yield key, self._store.arrays(key, EXAMPLES)[EXAMPLES]
            except DamagedObject as error:
                self._quarantine(key, str(error))

    def quarantine_for_retry(self, key: str, message: str) -> bool:
        """Quarantine a damaged object and return True; return False if it was damaged too often."""
        damages = self._damages.get(key, 0)
        if damages >= MAX_DAMAGES:
            return False
        self._damages[key] = damages + 1
        if self._store.damage_reason(key):  # otherwise another run has replaced it in the meantime
            self._quarantine(key, message)
        return True

    def record_unplanned(self, cells: Iterable[PlannedCell]) -> None:
        """Record the tracebacks of builders that failed during planning."""
        for cell in cells:
            if cell.traceback:
                facts = {"message": cell.problem, "traceback": cell.traceback, "time": time.time(), "cell": place(cell)}
                self._store.record_failure(cell.key, facts)

    def _quarantine(self, key: str, message: str) -> None:
        path = self._store.quarantine(key)
        self._context.emit(ObjectQuarantined(key=key, path=str(path), message=message))
