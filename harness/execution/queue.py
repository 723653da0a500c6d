"""Pending tasks in the order in which they are handed out."""

from __future__ import annotations

import heapq
from collections import defaultdict

from harness.api.task import Task

URGENCY = {"check": 0, "measure": 1, "predict": 2, "derive": 3, "train": 4}
"""Task kinds in the order in which ready tasks are handed out: what completes cells comes first."""


class TaskQueue:
    """Pending tasks whose parents are done, the most urgent first, in groups."""

    def __init__(self, pending: dict[str, Task]) -> None:
        self._tasks = pending
        self._rank = {key: (URGENCY[task.kind], i) for i, (key, task) in enumerate(pending.items())}
        self._missing = {key: sum(p in pending for p in task.parents) for key, task in pending.items()}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._groups: dict[str, list[str]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []
        for key, task in pending.items():
            for parent in task.parents:
                if parent in pending:
                    self._children[parent].append(key)
            if not self._missing[key]:
                self._ready(key)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _ready(self, key: str) -> None:
        group = self._tasks[key].group
        if group not in self._groups:
            self._groups[group] = []
            heapq.heappush(self._heap, (self._rank[key], group))
        self._groups[group].append(key)

    def take(self) -> list[Task]:
        """Return the most urgent group of tasks that are ready."""
        _, group = heapq.heappop(self._heap)
        return [self._tasks[key] for key in self._groups.pop(group)]

    def finish(self, key: str) -> None:
        """Note that a task is done; its children may be ready now."""
        for child in self._children[key]:
            self._missing[child] -= 1
            if not self._missing[child]:
                self._ready(child)
