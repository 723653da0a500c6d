"""The time that tasks take on some workers."""

from __future__ import annotations

import pytest

from harness.api.specs import ProbeSpec
from harness.api.task import Task
from harness.execution.wall_time import wall_time


def task(key: str, cost: float, parents: str = "", group: str = "") -> Task:
    """Return a task of `cost` epochs."""
    return Task(key, ProbeSpec(token=key, lease=""), tuple(parents), group or key, cost)


def tasks(*all_tasks: Task) -> dict[str, Task]:
    """Return tasks by key."""
    return {one.key: one for one in all_tasks}


CHAIN = tasks(task("x", 2), task("y", 2), task("z", 2), task("a", 2), task("b", 2, "a"), task("c", 2, "b"))
SIBLINGS = tasks(*[task(key, 3, group="g") for key in "abcd"])


@pytest.mark.parametrize(("workers", "seconds"), [(1, 60), (2, 30), (3, 30), (100, 30)])
def test_chain_beside_single_tasks(workers: int, seconds: float) -> None:
    """The chain of three bounds everything; with one worker the work does."""
    lengths = dict.fromkeys(CHAIN, 10.0)
    assert wall_time(CHAIN, lengths, workers, whole_groups=False) == seconds


@pytest.mark.parametrize(("workers", "alone", "together"), [(1, 12, 12), (2, 6, 6), (3, 6, 6), (4, 3, 3)])
def test_siblings(workers: int, alone: float, together: float) -> None:
    """Four siblings are divided among the workers, one by one or side by side (2 + 2 on three)."""
    lengths = dict.fromkeys(SIBLINGS, 3.0)
    assert wall_time(SIBLINGS, lengths, workers, whole_groups=False) == alone
    assert wall_time(SIBLINGS, lengths, workers, whole_groups=True) == together


def test_side_by_side() -> None:
    """Siblings side by side end together: what waits for one of them waits for all."""
    pending = tasks(task("a", 1, group="g"), task("b", 1, group="g"), task("c", 5, "a"))
    lengths = {"a": 1.0, "b": 1.0, "c": 5.0}
    assert wall_time(pending, lengths, 1, whole_groups=True) == 7
    assert wall_time({key: pending[key] for key in "ab"}, lengths, 1, whole_groups=True) == 2


def test_no_tasks() -> None:
    """They take no time."""
    assert wall_time({}, {}, 3, whole_groups=False) == 0
