"""Task files: the JSON of a task, which a run writes to the store and a worker reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.api.specs import task_spec_from_json
from harness.api.task import Task
from harness.errors import StoreError


def task_json(task: Task) -> dict[str, Any]:
    """Return a task as JSON."""
    return {
        "key": task.key,
        "kind": task.kind,
        "spec": task.spec.to_json(),
        "parents": list(task.parents),
        "group": task.group,
        "cost": task.cost,
    }


def task_from_json(facts: Mapping[str, Any]) -> Task:
    """Return the task in a task file, without parents and cost; raise `StoreError` if the file contains no task."""
    try:
        spec = task_spec_from_json(facts["spec"])
    except (KeyError, ValueError):
        spec = None
    if spec is None or spec.kind != facts.get("kind"):
        raise StoreError(f"task {facts.get('key')}: its file describes no task; `harness run` writes it anew")
    return Task(str(facts["key"]), spec, (), str(facts.get("group", "")))
