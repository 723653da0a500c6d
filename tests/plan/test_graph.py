"""The planner: which tasks are shared, what they cost, and which ones are pending."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
import toys
from conftest import RECIPE, Lab
from harness.plan.graph import Graph
from harness.plan.planner import plan

GraphOf = Callable[..., Graph]
PAPER: dict[str, Any] = {"members": 5, "recipe": {**RECIPE, "epochs": 110}}
SIX_METHODS = [
    "deep",
    {"constrained": {"fork_epoch": 10}},
    "swe",
    "permuted",
    {"distilled": {"fork_epoch": 10}},
    "distilled_deep",
]


def costs(graph: Graph) -> dict[str, tuple[float, float]]:
    """Return the epochs of each method: (trained alone, added to the cells before it)."""
    found = {}
    for cell in graph.cells:
        found[cell.spec.method.label] = (round(cell.epochs_alone, 6), round(cell.epochs_new, 6))
    return found


def test_costs_of_the_papers_six_methods(graph_of: GraphOf) -> None:
    """110 epochs, fork epoch 10 and 5 members take 4,670 epochs separately and 2,810 together."""
    found = costs(graph_of(**PAPER, methods=SIX_METHODS))
    assert found["deep"] == (550, 550)
    assert found["constrained"] == (510, 400)
    assert found["swe"] == (550, 460)
    assert found["permuted"] == (550, 0)
    assert found["distilled"] == (round(560 + 500 * 4 / 3, 6), round(500 * 4 / 3, 6))
    assert found["distilled_deep"] == (round(550 + 550 * 4 / 3, 6), round(550 * 4 / 3, 6))
    assert round(sum(alone for alone, _ in found.values())) == 4670
    assert round(sum(new for _, new in found.values())) == 2810


def test_sum_does_not_depend_on_the_order_of_methods(graph_of: GraphOf) -> None:
    """The first method bears the cost of what is shared; the sum and the set of tasks do not change."""
    forward = graph_of(**PAPER, methods=SIX_METHODS)
    backward = graph_of(**PAPER, methods=SIX_METHODS[::-1])
    assert set(forward.tasks) == set(backward.tasks)
    total = sum(cell.epochs_new for cell in forward.cells)
    assert sum(cell.epochs_new for cell in backward.cells) == pytest.approx(total)


def test_parents_come_before_children(graph_of: GraphOf) -> None:
    """The tasks are in topological order."""
    seen: set[str] = set()
    for key, task in graph_of(**PAPER, methods=SIX_METHODS).tasks.items():
        assert set(task.parents) <= seen
        seen.add(key)


def test_members_of_a_method_are_siblings(graph_of: GraphOf) -> None:
    """The forks of one trunk form a group, and so do the students of different teachers."""
    graph = graph_of(**PAPER, methods=SIX_METHODS)
    groups: dict[str, list[float]] = {}
    for task in graph.tasks.values():
        if task.kind == "train":
            groups.setdefault(task.group, []).append(task.cost)
    sizes = [len(costs) for costs in groups.values()]
    assert sizes.count(5) >= 2  # five students of `distilled`, five of `distilled_deep`
    assert max(sizes) <= 10


def test_keys_do_not_depend_on_the_rest_of_the_benchmark(graph_of: GraphOf) -> None:
    """Metrics, seeds, other methods and the benchmark's name change no key of a training."""
    trainings = {task.key for task in graph_of(methods=["deep"]).tasks.values() if task.kind == "train"}
    wider = graph_of(methods=["swe", "deep"], seeds=[3, 0], metrics=["brier_score"], name="other")
    assert len(trainings) == 3
    assert trainings <= set(wider.tasks)


def test_pending_tasks_of_a_second_run(graph_of: GraphOf, lab: Lab) -> None:
    """A repeated benchmark has none; with a new seed, the tasks of this seed are pending."""
    graph = graph_of()
    lab.run(graph)
    assert graph.pending(lab.store) == {}
    wider = graph_of(seeds=[0, 1])
    pending = wider.pending(lab.store)
    assert sum(task.cost for task in pending.values()) == sum(task.cost for task in graph.tasks.values())


def test_training_starts_from_the_latest_stored_epoch(graph_of: GraphOf, lab: Lab) -> None:
    """A new checkpoint on a stored trajectory is trained from the last stored one before it."""
    lab.run(graph_of(methods=[{"constrained": {"fork_epoch": 2}}]))
    pending = graph_of(methods=[{"constrained": {"fork_epoch": 3}}]).pending(lab.store)
    trainings = [task for task in pending.values() if task.kind == "train"]
    [trunk] = [task for task in trainings if task.spec.trajectory.start is None]
    assert (trunk.spec.start.epoch, trunk.spec.epoch, trunk.cost) == (2, 3, 1.0)


class Raising(harness.EnsembleBuilder):
    """Raises an error."""

    name = "raising"

    def build(self, cell: harness.Cell) -> Any:
        raise RuntimeError("no idea")


class NoHandles(harness.EnsembleBuilder):
    """Returns numbers."""

    name = "no_handles"

    def build(self, cell: harness.Cell) -> Any:
        return [3]


class Endless(harness.EnsembleBuilder):
    """Prints a line, and yields members without end."""

    name = "endless"

    def build(self, cell: harness.Cell) -> Any:
        print("a line of the builder")
        while True:
            yield cell.trajectory(member=0).at(1)


class NoList(harness.EnsembleBuilder):
    """Returns the training instead of members."""

    name = "no_list"

    def build(self, cell: harness.Cell) -> Any:
        return cell.trajectory(member=0)


class Foreign(harness.EnsembleBuilder):
    """Returns a handle of its own type."""

    name = "foreign"

    def build(self, cell: harness.Cell) -> Any:
        class Strange(harness.Weights):
            setting = cell.setting
            spec = {"kind": "strange"}  # type: ignore[assignment]
            location = {}  # type: ignore[assignment]

        return [cell.trajectory(member=0).at(3), Strange()]


BUILDERS: dict[type[harness.EnsembleBuilder], str] = {
    Raising: r"its builder fails: RuntimeError: no idea \(test_graph\.py:\d+\)",
    NoHandles: r"its builder returns \(3,\); at least one handle of weights is expected",
    NoList: r"its builder returns Trajectory\(.*; a list of handles is expected, such as \[trajectory\.at\(5\)\]",
    Endless: r"its builder returns more than 10000 members",
    Foreign: r"a handle of type Strange is not one the planner knows",
}


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.name)
def test_builder_that_fails(
    graph_of: GraphOf, capsys: pytest.CaptureFixture[str], builder: type[harness.EnsembleBuilder]
) -> None:
    """Its cell names the method and the problem and has no tasks; the other cell is planned; nothing is printed."""
    catalogue = toys.catalogue(("ensemble_builder", builder))
    graph = graph_of(catalogue, methods=[builder.name, "deep"])
    failed, deep = graph.cells
    assert re.fullmatch(f"method '{builder.name}' on blobs × perceptron: {BUILDERS[builder]}", failed.problem)
    assert deep.problem == ""
    assert graph.tasks == graph_of(methods=["deep"]).tasks
    assert capsys.readouterr().out == ""


def test_several_builders_that_fail(graph_of: GraphOf) -> None:
    """Each of their cells has its own key, and the traceback of a builder that raises is kept."""
    catalogue = toys.catalogue(*(("ensemble_builder", builder) for builder in BUILDERS))
    graph = graph_of(catalogue, methods=["raising", "no_handles", "deep", "endless", "foreign"])
    assert len({cell.key for cell in graph.cells}) == 5
    assert graph.tasks == graph_of(methods=["deep"]).tasks
    assert 'raise RuntimeError("no idea")' in graph.cells[0].traceback


@pytest.mark.slow
def test_ten_thousand_cells_are_planned_linearly(benchmark_of: Callable[..., Any], tmp_path: Path) -> None:
    """Twice the cells take less than 3.5 times the time."""
    seconds = []
    for count in (1000, 2000):
        benchmark = benchmark_of(seeds=list(range(count)), methods=["deep", "constrained", "swe", "permuted", "distilled"])
        start = time.process_time()
        graph = plan(benchmark)
        seconds.append(time.process_time() - start)
        assert len(graph.cells) == 5 * count
    assert seconds[1] < 3.5 * seconds[0]
