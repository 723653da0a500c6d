"""Tasks of a worker with a store of its own: what it reads is copied to it, and what it makes back to the run's store.

Digests are checked on arrival. The run's side holds the leases in its store, on behalf of the worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from harness.api.specs import CheckSpec, ProbeSpec, TrainSpec
from harness.api.task import Outcome, Task
from harness.errors import DamagedObject, StoreError
from harness.execution.task_files import task_from_json
from harness.execution.task_inputs import lease_key, objects_of, states_key
from harness.store import Store
from harness.store.packing import EntryName, PackedEntry
from harness.telemetry.events import WorkerDescribed

_ATTEMPTS = 3  # to copy an entry whose digests do not match on arrival


class RemoteStore(Protocol):
    """A `NodeStore` on another machine; see there. Raise `StoreError` if it cannot be written."""

    def lacks(self, names: Sequence[EntryName]) -> Sequence[EntryName]:
        """Return the names of what is not there yet."""

    def accept(self, entry: PackedEntry) -> str:
        """Take an entry; return what is wrong with it, or ""."""

    def begin(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Write task files."""

    def result(self, key: str) -> PackedEntry | None:
        """Return the object of a task."""

    def end(self, key: str) -> None:
        """Forget a task."""

    def new_states(self) -> Sequence[PackedEntry]:
        """Return the training states that are new."""

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return what was recorded about a failed task."""

    def discard(self, key: str) -> None:
        """Remove a damaged object."""


@dataclass
class Beginning:
    """What became of a group of tasks: some have ended, the worker has got some, and other runs are doing the rest."""

    ended: list[Outcome] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    waiting: list[Task] = field(default_factory=list)


class Transfers:
    """The copies for one worker. `begin` may be called in another thread than the other methods."""

    def __init__(self, store: Store, node: RemoteStore) -> None:
        self._store = store
        self._node = node
        self._open: dict[str, Task] = {}
        self._leases: dict[str, contextlib.ExitStack] = {}

    def begin(self, keys: Sequence[str]) -> Beginning:
        """Copy what tasks read, if no other run does them. Raise `StoreError` if a store fails."""
        beginning = Beginning()
        for key in keys:
            facts = self._store.read_task(key)
            task = task_from_json(facts)
            if not self._claim(task):
                beginning.waiting.append(task)
            elif self._store.has(key):
                self._release(key)
                beginning.ended.append(Outcome(key, "done", taken_over=True))
            else:
                self._open[key] = task
                self._send(task, facts, beginning)
        return beginning

    def _claim(self, task: Task) -> bool:
        """Take the lease on a task; return whether this run has it. A check or a probe has none."""
        if isinstance(task.spec, CheckSpec | ProbeSpec):
            return True
        stack = contextlib.ExitStack()
        if not stack.enter_context(self._store.lease(lease_key(task))):
            stack.close()
            return self._store.has(task.key)
        self._leases[task.key] = stack
        return True

    def _send(self, task: Task, facts: Mapping[str, Any], beginning: Beginning) -> None:
        names = [EntryName(key) for key in objects_of(task.spec)]
        states = states_key(task)
        if states is not None:
            names += [EntryName(states, step) for step in self._store.training_states.steps(states)]
        for name in self._node.lacks(names):
            problem = self._copy(name, task)
            if problem is not None:
                self._end(task.key)
                beginning.ended.append(problem)
                return
        self._node.begin([facts])
        beginning.sent.append(task.key)

    def _copy(self, name: EntryName, task: Task) -> Outcome | None:
        """Copy an entry to the node; return the outcome of the task if that fails."""
        try:
            entry = self._store.pack(name)
        except DamagedObject as error:
            if name.step is not None:  # the training begins before it, as on this machine
                return None
            return Outcome(task.key, "damaged", str(error), damaged=name.key)
        reason = ""
        for _ in range(_ATTEMPTS):
            reason = self._node.accept(entry)
            if not reason:
                return None
        message = f"object {name.key[:12]} did not arrive whole, {_ATTEMPTS} times: {reason}"
        return Outcome(task.key, "failed", message)

    def receive(self, outcome: Outcome) -> Outcome:
        """Copy what a task has made; return its outcome. Raise `StoreError` if a store fails."""
        task = self._open.get(outcome.key)
        if task is None:
            return outcome
        try:
            if outcome.status == "done":
                return self._take_result(task, outcome)
            if outcome.status == "damaged":
                self._node.discard(outcome.damaged)
            elif outcome.status == "failed":
                facts = self._node.failure(outcome.key)
                if facts is not None:
                    self._store.record_failure(outcome.key, facts)
            return outcome
        finally:
            self._end(outcome.key)

    def _take_result(self, task: Task, outcome: Outcome) -> Outcome:
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                entry = self._node.result(task.key)
                if entry is not None:
                    self._note(task)
                    self._store.accept(entry)
            except DamagedObject as error:
                reason = error.reason
                continue
            states = states_key(task)
            if states is not None:
                self._store.drop_finished_states(states)
            return outcome
        message = f"its result did not arrive whole, {_ATTEMPTS} times: {reason}"
        return replace(outcome, status="failed", message=message)

    def _note(self, task: Task) -> None:
        """Note the epoch of a checkpoint, before its object is there, as a worker does."""
        if isinstance(task.spec, TrainSpec):
            self._store.note_epoch(task.spec.trajectory_key, task.spec.epoch, task.key)

    def save_states(self) -> None:
        """Copy the training states that the worker has saved. One that did not arrive whole is left out."""
        for entry in self._node.new_states():
            with contextlib.suppress(DamagedObject):
                self._store.accept(entry)

    def corrected(self, event: WorkerDescribed) -> WorkerDescribed:
        """Return what a probe of the worker tells, with the lease in the run's store, since this process takes the leases."""
        task = self._open.get(event.task)
        if task is None or not isinstance(task.spec, ProbeSpec):
            return event
        with self._store.lease(task.spec.lease) as acquired:
            return replace(event, lease_acquired=acquired)

    def _end(self, key: str) -> None:
        del self._open[key]
        self._release(key)
        with contextlib.suppress(StoreError):
            self._node.end(key)

    def _release(self, key: str) -> None:
        stack = self._leases.pop(key, None)
        if stack is not None:
            stack.close()

    def close(self) -> None:
        """Release the leases of tasks that have not ended."""
        for key in list(self._leases):
            self._release(key)
        self._open.clear()
