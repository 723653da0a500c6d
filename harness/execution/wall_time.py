"""The time that tasks take on some workers, with the order in which a run hands them out."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from harness.api.task import Task
from harness.execution.queue import TaskQueue, side_by_side


def wall_time(tasks: Mapping[str, Task], lengths: Mapping[str, float], workers: int, *, whole_groups: bool) -> float:
    """Return when the last task ends, if every worker does one group after another and needs no time besides.

    `tasks` are in order, parents before children; `lengths` are theirs, in any unit. With `whole_groups`, a worker does
    siblings side by side: their lengths add up, and all of them end together. Else each sibling is a group of its own.
    """
    queue = TaskQueue(tasks)

    def group_size(ready: int, groups: int) -> int:
        return side_by_side(ready, groups, workers) if whole_groups else 1

    running: list[tuple[float, int, list[Task]]] = []
    now = 0.0
    started = 0
    while running or queue:
        while queue and len(running) < workers:
            group = queue.take(group_size)
            end = now + sum(lengths[task.key] for task in group)
            heapq.heappush(running, (end, started, group))
            started += 1
        now, _, group = heapq.heappop(running)
        for task in group:
            queue.finish(task.key)
    return now
