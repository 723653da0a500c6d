"""Pending tasks in the order in which they are handed out.

Trainings with the longest path to the end of the run come first: a chain of trainings cannot be divided among workers, so
everything else is done beside it. Tasks that complete cells are short and come before trainings, so that a run that is stopped
has rows to show.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from harness.api.specs import Kind, PredictSpec
from harness.api.task import Task
from harness.plan.longest_path import remaining_paths

_ORDER: tuple[Kind, ...] = ("probe", "check", "measure", "predict", "derive", "train")
"""Kinds in the order in which ready tasks are handed out."""

Rank = tuple[int, float, int]
"""The kind, the longest path to the end, the longer the smaller, and the position in the plan: no two tasks have the same."""

GroupSize = Callable[[int, int], int]
"""Returns how many of a group's ready tasks are handed out at once; see `Engine.group_size`."""


def whole_group(ready: int, groups: int) -> int:
    """Return the number of all ready tasks of a group."""
    return ready


def side_by_side(ready: int, groups: int, devices: int) -> int:
    """Return how many siblings of a group one worker gets if it trains them side by side.

    All devices, the busy ones too, are divided among the groups that are ready: a group is split if there are more devices than
    groups.
    """
    parts = max(1, devices // groups)
    return math.ceil(ready / parts)


def _kind_rank(task: Task) -> int:
    """Return the rank of a task's kind. Predictions on evaluation sets come last, so that a split is loaded for all members."""
    if isinstance(task.spec, PredictSpec) and task.spec.evaluation is not None:
        return len(_ORDER)
    return _ORDER.index(task.kind)


class TaskQueue:
    """Hands out pending tasks whose parents are done: in groups, the most urgent first.

    `pending` has parents before children. The order depends on it and on the order of `finish` only.
    """

    def __init__(self, pending: Mapping[str, Task]) -> None:
        self._tasks = pending
        self._rank: dict[str, Rank] = {}
        self._open_parents: dict[str, int] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._groups: dict[str, list[tuple[Rank, str]]] = {}  # a heap of ready tasks for each group
        self._heap: list[tuple[Rank, str]] = []  # groups; entries whose rank is not that of the group's first task are ignored
        remaining = remaining_paths(pending, {key: task.cost for key, task in pending.items()})
        for position, (key, task) in enumerate(pending.items()):
            self._rank[key] = _kind_rank(task), -remaining[key], position
            parents = [parent for parent in task.parents if parent in pending]
            self._open_parents[key] = len(parents)
            for parent in parents:
                self._children[parent].append(key)
        for key, count in self._open_parents.items():
            if count == 0:
                self._add_ready(key)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _add_ready(self, key: str) -> None:
        group = self._tasks[key].group
        waiting = self._groups.setdefault(group, [])
        heapq.heappush(waiting, (self._rank[key], key))
        self._note_first(group)

    def _note_first(self, group: str) -> None:
        rank, _ = self._groups[group][0]
        heapq.heappush(self._heap, (rank, group))

    def take(self, group_size: GroupSize = whole_group) -> list[Task]:
        """Remove and return the most urgent ready task and siblings of it, the most urgent first.

        `group_size` says how many. Measurements of one ensemble stay together, since they share it in memory.
        """
        group = self._most_urgent_group()
        waiting = self._groups[group]
        count = len(waiting)
        if self._tasks[waiting[0][1]].kind != "measure":
            count = max(1, min(count, group_size(count, len(self._groups))))
        taken = [heapq.heappop(waiting)[1] for _ in range(count)]
        if waiting:
            self._note_first(group)
        else:
            del self._groups[group]
        return [self._tasks[key] for key in taken]

    def _most_urgent_group(self) -> str:
        while True:
            rank, group = heapq.heappop(self._heap)
            waiting = self._groups.get(group)
            if waiting and waiting[0][0] == rank:
                return group

    def finish(self, key: str, without: Collection[str] = ()) -> None:
        """Record that a task is done; its children may be ready now. Those in `without` are never handed out."""
        for child in self._children[key]:
            if child in without:
                continue
            self._open_parents[child] -= 1
            if not self._open_parents[child]:
                self._add_ready(child)
