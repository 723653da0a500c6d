"""A task as JSON: what a worker reads from the store."""

from __future__ import annotations

from typing import Any

from harness.api.task import Task
from harness.errors import StoreError
from harness.execution.queue import URGENCY


def task_json(task: Task) -> dict[str, Any]:
    """Return a task as JSON; its key is the file's name."""
    return {"kind": task.kind, "spec": task.spec, "parents": list(task.parents), "group": task.group, "cost": task.cost}


def task_from_json(kept: dict[str, Any]) -> Task:
    """Return the task that a task file describes; raise `StoreError` if it describes none."""
    kind = kept.get("kind")
    if not isinstance(kind, str) or kind not in URGENCY or not isinstance(kept.get("spec"), dict):
        raise StoreError(f"task {kept.get('key')}: its file describes no task; `harness run` writes it anew")
    return Task(kept["key"], kept["kind"], kept["spec"], (), str(kept.get("group", "")))  # what a worker needs
