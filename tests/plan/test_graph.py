"""The planner: what is shared, what it costs, what is left to do."""

from __future__ import annotations

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
SIX = ["deep", {"constrained": {"fork_epoch": 10}}, "swe", "permuted", {"distilled": {"fork_epoch": 10}}, "distilled_deep"]


def costs(graph: Graph) -> dict[str, tuple[float, float]]:
    """Return (alone, new) epochs by method."""
    return {cell.spec.method.label: (round(cell.epochs_alone, 6), round(cell.epochs_new, 6)) for cell in graph.cells}


def test_costs_of_the_papers_six_methods(graph_of: GraphOf) -> None:
    """T = 110, t = 10, M = 5: 4,670 member-epochs alone, 2,810 shared; SWE forks where the cosine meets its floor."""
    found = costs(graph_of(**PAPER, methods=SIX))
    assert found["deep"] == (550, 550)
    assert found["constrained"] == (510, 400)
    assert found["swe"] == (550, 460)
    assert found["permuted"] == (550, 0)
    assert found["distilled"] == (round(560 + 500 * 4 / 3, 6), round(500 * 4 / 3, 6))
    assert found["distilled_deep"] == (round(550 + 550 * 4 / 3, 6), round(550 * 4 / 3, 6))
    assert round(sum(alone for alone, _ in found.values())) == 4670
    assert round(sum(new for _, new in found.values())) == 2810


def test_sum_does_not_depend_on_the_order_of_methods(graph_of: GraphOf) -> None:
    """Whoever comes first pays for what is shared; the sum and the set of tasks stay."""
    forward, backward = graph_of(**PAPER, methods=SIX), graph_of(**PAPER, methods=SIX[::-1])
    assert set(forward.tasks) == set(backward.tasks)
    assert sum(c.epochs_new for c in forward.cells) == pytest.approx(sum(c.epochs_new for c in backward.cells))


def test_parents_come_before_children(graph_of: GraphOf) -> None:
    """Tasks are in an order in which they can be done."""
    seen: set[str] = set()
    for key, task in graph_of(**PAPER, methods=SIX).tasks.items():
        assert set(task.parents) <= seen
        seen.add(key)


def test_members_of_a_method_are_siblings(graph_of: GraphOf) -> None:
    """The continuations of one trunk, and the students of different teachers, form one group each."""
    graph = graph_of(**PAPER, methods=SIX)
    groups: dict[str, list[float]] = {}
    for task in graph.tasks.values():
        if task.kind == "train":
            groups.setdefault(task.group, []).append(task.cost)
    sizes = sorted(len(costs) for costs in groups.values())
    assert sizes.count(5) >= 2  # five distilled students, five distilled deep ones
    assert max(sizes) <= 10


def test_keys_do_not_depend_on_what_else_is_run(graph_of: GraphOf) -> None:
    """Metrics, seeds, other methods and the benchmark's name change no key of a training."""
    alone = {t.key for t in graph_of(methods=["deep"]).tasks.values() if t.kind == "train"}
    more = graph_of(methods=["swe", "deep"], seeds=[3, 0], metrics=["brier_score"], name="other")
    assert alone <= {t.key for t in more.tasks.values()}


def test_nothing_is_pending_for_a_store_that_has_it(graph_of: GraphOf, lab: Lab) -> None:
    """A second run of a benchmark has nothing to do, a new seed only its own work."""
    graph = graph_of()
    lab.run(graph)
    assert graph.pending(lab.store) == {}
    wider = graph_of(seeds=[0, 1])
    pending = wider.pending(lab.store)
    assert sum(task.cost for task in pending.values()) == sum(task.cost for task in graph.tasks.values())


def test_training_starts_from_the_latest_stored_epoch(graph_of: GraphOf, lab: Lab) -> None:
    """A tap that is new on a stored trajectory is trained from the last checkpoint before it."""
    lab.run(graph_of(methods=[{"constrained": {"fork_epoch": 2}}]))
    pending = graph_of(methods=[{"constrained": {"fork_epoch": 3}}]).pending(lab.store)
    trunk = [t for t in pending.values() if t.kind == "train" and t.spec.trajectory.start is None]
    assert [(t.spec.start.epoch, t.spec.epoch, t.cost) for t in trunk] == [(2, 3, 1.0)]


def test_builder_that_fails_fails_its_cells_only(graph_of: GraphOf, capsys: pytest.CaptureFixture[str]) -> None:
    """A builder that raises, or returns what it may not, is named with where it was to build; the other cells are planned, and
    nothing is planned for its own."""

    class Broken(harness.EnsembleBuilder):
        name = "broken"

        def build(self, cell: harness.Cell) -> Any:
            raise RuntimeError("no idea")

    class Wrong(Broken):
        name = "wrong"

        def build(self, cell: harness.Cell) -> Any:
            return [3]

    class Endless(Broken):
        name = "endless"

        def build(self, cell: harness.Cell) -> Any:
            print("not for the output")
            while True:
                yield cell.trajectory(member=0).at(1)

    class Foreign(Broken):
        name = "foreign"

        def build(self, cell: harness.Cell) -> Any:
            class Strange(harness.Weights):
                setting, spec, location = cell.setting, {"kind": "strange"}, {}  # type: ignore[assignment]

            return [cell.trajectory(member=0).at(3), Strange()]

    catalogue = toys.catalogue(*(("ensemble_builder", cls) for cls in (Broken, Wrong, Endless, Foreign)))
    graph = graph_of(catalogue, methods=["broken", "wrong", "deep", "endless", "foreign"])
    broken, wrong, deep, endless, foreign = graph.cells
    where = "method 'broken' on blobs × perceptron: "
    assert broken.problem.startswith(f"{where}its builder fails: RuntimeError: no idea (test_graph.py:")
    assert 'raise RuntimeError("no idea")' in broken.traceback
    assert wrong.problem.endswith("its builder returns (3,); at least one handle of weights is expected")
    assert endless.problem.endswith("its builder returns more than 10000 members")
    assert foreign.problem.endswith("a handle of type Strange is not one the planner knows")
    assert not deep.problem
    assert graph.tasks == graph_of(methods=["deep"]).tasks
    assert len({cell.key for cell in graph.cells}) == 5
    assert "not for the output" not in capsys.readouterr().out


@pytest.mark.slow
def test_ten_thousand_cells_are_planned_linearly(benchmark_of: Callable[..., Any], tmp_path: Path) -> None:
    """Twice the cells cost about twice the time (a loose bound; the time itself is a benchmark)."""
    seconds = []
    for count in (1000, 2000):
        benchmark = benchmark_of(seeds=list(range(count)), methods=["deep", "constrained", "swe", "permuted", "distilled"])
        began = time.process_time()
        graph = plan(benchmark)
        seconds.append(time.process_time() - began)
        assert len(graph.cells) == 5 * count
    assert seconds[1] < 3.5 * seconds[0]
