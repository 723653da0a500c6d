"""The longest paths of graphs whose paths are known."""

from __future__ import annotations

import time
from collections.abc import Callable

from conftest import RECIPE
from harness.api.specs import ProbeSpec
from harness.api.task import Task
from harness.plan.graph import Graph
from harness.plan.longest_path import critical_path, remaining_paths

GraphOf = Callable[..., Graph]


def graph(**parents: str) -> dict[str, Task]:
    """Return tasks with parents, each a text of one-letter keys."""
    return {key: Task(key, ProbeSpec(token=key, lease=""), tuple(names), key) for key, names in parents.items()}


def test_paths_of_a_small_graph() -> None:
    """A path counts its own task and the longest one after it; of two branches the longer one counts."""
    tasks = graph(a="", b="a", c="a", d="bc", e="")
    lengths = {"a": 2.0, "b": 3.0, "c": 5.0, "d": 1.0, "e": 4.0}
    assert remaining_paths(tasks, lengths) == {"a": 8, "b": 4, "c": 6, "d": 1, "e": 4}
    assert critical_path(tasks, lengths) == ["a", "c", "d"]


def test_parents_that_are_done() -> None:
    """They are not part of any path."""
    tasks = graph(b="a", c="b")
    assert remaining_paths(tasks, {"b": 1.0, "c": 1.0}) == {"b": 2, "c": 1}
    assert critical_path(tasks, {"b": 1.0, "c": 1.0}) == ["b", "c"]


def test_equal_paths() -> None:
    """The first one is the critical path."""
    assert critical_path(graph(b="", a=""), {"a": 1.0, "b": 1.0}) == ["b"]


def test_graph_without_tasks() -> None:
    """It has no path."""
    assert critical_path({}, {}) == []


def test_chain_of_swe(graph_of: GraphOf) -> None:
    """With 5 members of 20 epochs it is 100 epochs long, and distillation from deep members 20 + 4/3 · 20."""
    planned = graph_of(members=5, recipe={**RECIPE, "epochs": 20}, methods=["swe", "distilled_deep"])
    costs = {key: task.cost for key, task in planned.tasks.items()}
    path = critical_path(planned.tasks, costs)
    trainings = [key for key in path if planned.tasks[key].kind == "train"]
    assert sum(costs[key] for key in path) == 100
    assert len(trainings) >= 5
    paths = remaining_paths(planned.tasks, costs)
    others = {paths[key] for key, task in planned.tasks.items() if task.kind == "train" and key not in path}
    assert round(20 + 4 / 3 * 20, 6) in others
    assert max(others) <= 80


def test_long_chain() -> None:
    """A hundred thousand tasks one after another take no recursion and no quadratic time."""
    tasks: dict[str, Task] = {}
    parent: tuple[str, ...] = ()
    for number in range(100_000):
        tasks[str(number)] = Task(str(number), ProbeSpec(token="", lease=""), parent, "")
        parent = (str(number),)
    began = time.process_time()
    assert remaining_paths(tasks, dict.fromkeys(tasks, 1.0))["0"] == 100_000
    assert time.process_time() - began < 5
