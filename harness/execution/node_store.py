"""A worker's own store, on a node that does not see the store of the run.

Objects and training states are copied into it before a task that reads them, and back after the task. The worker uses it like
any store. The last worker of a node removes it, unless it was lost: then the store stays for the next run, whose workers go on
where the lost one was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import DamagedObject, StoreError
from harness.execution.task_files import task_from_json
from harness.execution.task_inputs import states_key
from harness.store import Store
from harness.store.packing import EntryName, PackedEntry

_MAX_FAILURE = 32 * 2**20  # bytes


class NodeStore:
    """The node's side of copies between the store of a run and that of a node. Raise `StoreError` if it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder)
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            is_ours = folder.parent.stat().st_uid == os.geteuid()
        except OSError as error:
            raise StoreError(f"{folder}: cannot be created: {error.strerror or error}") from None
        if not is_ours:  # the temporary folder is everybody's
            raise StoreError(f"{folder.parent}: belongs to another user; name another folder")
        self._store.prepare()
        self._states_keys: dict[str, str] = {}  # of the tasks that are not done, by key
        self._copied: set[EntryName] = set()  # training states that the run has, too

    def lacks(self, names: Sequence[EntryName]) -> list[EntryName]:
        """Return the names of what is not there yet."""
        return [name for name in names if not self._has(name)]

    def _has(self, name: EntryName) -> bool:
        if name.step is None:
            return self._store.has(name.key)
        return any(step >= name.step for step in self._store.training_states.steps(name.key))

    def accept(self, entry: PackedEntry) -> str:
        """Take an entry of the run's store; return what is wrong with it, or ""."""
        try:
            self._store.accept(entry)
        except DamagedObject as error:
            return error.reason
        self._copied.add(entry.name)
        return ""

    def begin(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Write task files for the worker."""
        for facts in tasks:
            task = task_from_json(facts)
            self._store.write_task(task.key, facts)
            states = states_key(task)
            if states is not None:
                self._states_keys[task.key] = states

    def result(self, key: str) -> PackedEntry | None:
        """Return the object of a task; None if it has none. Raise `DamagedObject`."""
        if not self._store.present(key):
            return None
        return self._store.pack(EntryName(key))

    def end(self, key: str) -> None:
        """Forget a task: its training states are not looked for any more."""
        self._states_keys.pop(key, None)

    def new_states(self) -> list[PackedEntry]:
        """Return the training states that the worker has saved and the run has not got yet."""
        found = []
        for key in set(self._states_keys.values()):
            for step in self._store.training_states.steps(key)[:1]:
                name = EntryName(key, step)
                if name not in self._copied:
                    found += self._packed(name)
        self._copied.update(entry.name for entry in found)
        return found

    def _packed(self, name: EntryName) -> list[PackedEntry]:
        try:
            return [self._store.pack(name)]
        except DamagedObject:  # the worker has replaced it by a later one, or will overwrite it
            return []

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return what the worker has recorded about a task that failed."""
        path = self._store.failure(key)
        if path is None:
            return None
        try:
            facts = json.loads(files.read(path, _MAX_FAILURE))
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def discard(self, key: str) -> None:
        """Remove a damaged object; it is copied again when a task reads it."""
        self._store.quarantine(key)

    def close(self, *, remove: bool) -> None:
        """Release the store; with `remove`, remove it unless another worker of this node uses it."""
        if remove:
            with self._store.exclusive() as others:
                if not others:
                    files.remove(self._store.base)
        self._store.close()
