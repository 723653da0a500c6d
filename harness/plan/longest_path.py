"""Longest paths through a graph of tasks: what a run with any number of workers has to wait for."""

from __future__ import annotations

from collections.abc import Mapping

from harness.api.task import Task


def remaining_paths(tasks: Mapping[str, Task], lengths: Mapping[str, float]) -> dict[str, float]:
    """Return, for each task, the length of the longest path from its start to the end of the graph.

    `tasks` are in order, parents before children; parents that are not among them are done. `lengths` are those of the tasks
    themselves, in any unit. The time is linear in the number of tasks and parents. Sums are rounded, so that the order in which
    equal lengths are added makes no difference.
    """
    after: dict[str, float] = {}  # the longest path from the end of a task
    remaining: dict[str, float] = {}
    for key in reversed(list(tasks)):
        remaining[key] = round(lengths[key] + after.get(key, 0.0), 6)
        for parent in tasks[key].parents:
            after[parent] = max(after.get(parent, 0.0), remaining[key])
    return remaining


def critical_path(tasks: Mapping[str, Task], lengths: Mapping[str, float]) -> list[str]:
    """Return the keys of the tasks on the longest path, the first one first. Of equal paths, the one that comes first."""
    remaining = remaining_paths(tasks, lengths)
    children: dict[str, list[str]] = {}
    roots = []
    for key, task in tasks.items():
        parents = [parent for parent in task.parents if parent in tasks]
        if not parents:
            roots.append(key)
        for parent in parents:
            children.setdefault(parent, []).append(key)
    path: list[str] = []
    nodes = roots
    while nodes:
        longest = max(nodes, key=lambda key: remaining[key])
        path.append(longest)
        nodes = children.get(longest, [])
    return path
