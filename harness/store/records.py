"""JSON files beside the objects: tasks for `harness worker`, and the last failure of each task."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import files
from harness.api.task import canonical_json
from harness.errors import StoreError
from harness.store import objects
from harness.store.errors import explained
from harness.store.layout import Layout
from harness.store.writer import StoreWriter

_WRITE = "cannot be written"


class Records:
    """The tasks and failures of a store. No object depends on them, so they are not synced."""

    def __init__(self, layout: Layout, writer: StoreWriter) -> None:
        self._layout = layout
        self._writer = writer

    def write_task(self, key: str, task: Mapping[str, Any]) -> None:
        """Store a task, unless it is stored already."""
        path = self._layout.task_file(key)
        data = canonical_json({"sha256": objects.digest(task), "task": task}).encode()
        with contextlib.suppress(OSError):
            if files.read(path, len(data)) == data:
                return
        with explained(self._layout.root, _WRITE):
            self._writer.write_file(path, data)

    def read_task(self, key: str) -> dict[str, Any]:
        """Return a stored task. Raise `StoreError` if it is missing or damaged."""
        path = self._layout.task_file(key)
        try:
            return _parse_task(files.read(path, objects.MAX_META), key)
        except (OSError, *objects.MALFORMED) as error:
            reason = type(error).__name__
            raise StoreError(f"{self._layout.root}: no readable task {key}; `harness run` writes them ({reason})") from None

    def record_failure(self, key: str, facts: Mapping[str, Any]) -> Path:
        """Store the last failed attempt at a task, with its traceback; return the file's path."""
        path = self._layout.failure_file(key)
        with explained(self._layout.root, _WRITE):
            self._writer.write_file(path, json.dumps(facts, indent=1, default=str).encode())
        return self._layout.as_given(path)

    def failure(self, key: str) -> Path | None:
        """Return the file of the last failed attempt at a task, if there is one."""
        path = self._layout.failure_file(key)
        return self._layout.as_given(path) if path.is_file() else None


def _parse_task(raw: bytes, key: str) -> dict[str, Any]:
    record = json.loads(raw)
    task = record["task"]
    if not isinstance(task, dict) or task.get("key") != key:
        raise ValueError
    if record["sha256"] != objects.digest(task):
        raise ValueError
    return task
