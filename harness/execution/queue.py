"""Pending tasks in the order in which they are handed out."""

from __future__ import annotations

import heapq
from collections import defaultdict

from harness.api.specs import Kind
from harness.api.task import Task

_ORDER: tuple[Kind, ...] = ("probe", "check", "measure", "predict", "derive", "train")
"""Kinds in the order in which ready tasks are handed out: the tasks that complete cells come first."""


class TaskQueue:
    """Hands out pending tasks whose parents are done: in groups, the most urgent first."""

    def __init__(self, pending: dict[str, Task]) -> None:
        self._tasks = pending
        self._rank: dict[str, tuple[int, int]] = {}
        self._open_parents: dict[str, int] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._groups: dict[str, list[str]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []
        for position, (key, task) in enumerate(pending.items()):
            self._rank[key] = _ORDER.index(task.kind), position
            parents = [parent for parent in task.parents if parent in pending]
            self._open_parents[key] = len(parents)
            for parent in parents:
                self._children[parent].append(key)
            if not parents:
                self._add_ready(key)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _add_ready(self, key: str) -> None:
        group = self._tasks[key].group
        if group not in self._groups:
            self._groups[group] = []
            heapq.heappush(self._heap, (self._rank[key], group))
        self._groups[group].append(key)

    def take(self) -> list[Task]:
        """Remove and return the most urgent group of ready tasks."""
        _, group = heapq.heappop(self._heap)
        return [self._tasks[key] for key in self._groups.pop(group)]

    def finish(self, key: str) -> None:
        """Record that a task is done; its children may be ready now."""
        for child in self._children[key]:
            self._open_parents[child] -= 1
            if not self._open_parents[child]:
                self._add_ready(child)
