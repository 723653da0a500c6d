"""The order in which ready tasks are handed out."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping

import pytest

from harness.api.specs import ProbeSpec
from harness.api.task import Task
from harness.execution.queue import TaskQueue
from harness.execution.run_plan import RunPlan
from harness.plan.graph import Graph

GraphOf = Callable[..., Graph]


def task(key: str, cost: float, parents: str = "", group: str = "") -> Task:
    """Return a task that takes `cost` epochs."""
    return Task(key, ProbeSpec(token=key, lease=""), tuple(parents), group or key, cost)


def tasks(*all_tasks: Task) -> dict[str, Task]:
    """Return tasks by key."""
    return {one.key: one for one in all_tasks}


def one(ready: int, groups: int) -> int:
    """Hand out one task of a group at a time."""
    return 1


def order(queue: TaskQueue) -> Iterator[str]:
    """Do the tasks of a queue one by one; yield their keys."""
    while queue:
        (taken,) = queue.take(one)
        yield taken.key
        queue.finish(taken.key)


def makespan(pending: Mapping[str, Task], workers: int) -> float:
    """Return when the last task ends, if each of several workers takes the first ready task as soon as it has none."""
    queue = TaskQueue(pending)
    running: list[tuple[float, str]] = []
    now = 0.0
    while running or queue:
        while queue and len(running) < workers:
            (taken,) = queue.take(one)
            heapq.heappush(running, (now + taken.cost, taken.key))
        now, key = heapq.heappop(running)
        queue.finish(key)
    return now


CHAIN = tasks(task("x", 2), task("y", 2), task("z", 2), task("a", 2), task("b", 2, "a"), task("c", 2, "b"))
"""A chain of three tasks, planned after three tasks that nothing waits for."""


def test_chain_beside_single_tasks() -> None:
    """The chain starts first, though it was planned last, and equal paths keep the order of the plan."""
    assert list(order(TaskQueue(CHAIN))) == ["a", "b", "x", "y", "z", "c"]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 12), (2, 6), (3, 6)])
def test_makespan_of_a_chain(workers: int, seconds: float) -> None:
    """Two workers take 6: a, b and c beside x, y and z. In the order of the plan they would take 8."""
    assert makespan(CHAIN, workers) == seconds


def test_makespan_of_a_fork() -> None:
    """A trunk of 1 with forks of 4 and 2 beside a single task of 5: two workers take 7 (trunk, 4, 2 | 5)."""
    forked = tasks(task("s", 5), task("t", 1), task("u", 4, "t"), task("v", 2, "t"))
    assert makespan(forked, 2) == 7


def test_siblings_with_different_paths() -> None:
    """The ones with the longest path to the end come first, also within a group."""
    pending = tasks(task("a", 1, group="g"), task("b", 1, group="g"), task("c", 1, group="g"), task("d", 9, "b"))
    queue = TaskQueue(pending)
    assert [taken.key for taken in queue.take(lambda ready, groups: 2)] == ["b", "a"]
    assert [taken.key for taken in queue.take()] == ["c"]
    assert not queue


def test_group_that_becomes_more_urgent() -> None:
    """A sibling that becomes ready later, with a longer path, moves its group to the front."""
    pending = tasks(task("p", 9), task("a", 2, group="g"), task("b", 2, "p", group="g"), task("x", 3), task("y", 20, "b"))
    queue = TaskQueue(pending)
    assert [taken.key for taken in queue.take()] == ["p"]
    queue.finish("p")
    assert [taken.key for taken in queue.take(one)] == ["b"]
    assert [taken.key for taken in queue.take(one)] == ["x"]
    assert [taken.key for taken in queue.take(one)] == ["a"]


def test_size_of_a_group() -> None:
    """The queue says how many siblings and how many groups are ready; at least one and at most all are taken."""
    pending = tasks(task("a", 1, group="g"), task("b", 1, group="g"), task("c", 1))
    asked: list[tuple[int, int]] = []

    def size(ready: int, groups: int) -> int:
        asked.append((ready, groups))
        return 0 if len(asked) == 1 else 99

    queue = TaskQueue(pending)
    assert [len(queue.take(size)) for _ in range(3)] == [1, 1, 1]
    assert asked == [(2, 2), (1, 2), (1, 1)]


def test_chain_of_a_benchmark(graph_of: GraphOf) -> None:
    """Of all trainings, the chain of SWE starts first, though `deep` is planned before."""
    graph = graph_of(methods=["deep", "swe"], members=4)
    queue = TaskQueue(RunPlan(graph).update(graph.tasks))
    kinds: list[str] = []
    epochs: list[float] = []
    first = ""
    while queue:
        for taken in queue.take(one):
            queue.finish(taken.key)
            kinds.append(taken.kind)
            if taken.kind == "train":
                first = first or taken.key
                epochs.append(taken.cost)
    chain = {member.location.object for member in graph.cells[1].members}
    assert first in chain
    assert kinds[0] == "check"
    assert sum(epochs) == sum(cell.epochs_new for cell in graph.cells)


def test_measurements_of_an_ensemble(graph_of: GraphOf) -> None:
    """They are handed out together, however small a group is asked for, and before the next training."""
    graph = graph_of(methods=["deep"], metrics=["ensemble_accuracy", "brier_score"], seeds=[0, 1])
    queue = TaskQueue(RunPlan(graph).update(graph.tasks))
    taken_kinds: list[list[str]] = []
    while queue:
        group = queue.take(one)
        taken_kinds.append([taken.kind for taken in group])
        for taken in group:
            queue.finish(taken.key)
    assert ["measure", "measure"] in taken_kinds
    assert taken_kinds.index(["measure", "measure"]) < len(taken_kinds) - 1
    assert taken_kinds.count(["measure", "measure"]) == 2
