"""Ensembles in one basin that are pushed apart, or teach each other, and the paper's ablations of teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import toys
from conftest import RECIPE, Lab
from harness import Cell, EnsembleBuilder, Setting, Weights
from harness.benchmark import load_benchmark
from harness.errors import BenchmarkError
from harness.plan.graph import Graph, PlannedCell
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness.results.rows import read_rows

GraphOf = Callable[..., Graph]
ABLATIONS = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "ablations.yaml"
METRICS = ["ensemble_accuracy", "jensen_shannon_divergence"]
FORK = {"fork_epoch": 1}


def cells(graph: Graph) -> dict[str, PlannedCell]:
    """Return the cells of a graph by method."""
    return {cell.spec.method.label: cell for cell in graph.cells}


def members(graph: Graph, method: str) -> list[str]:
    """Return the keys of a method's members."""
    return [member.key for member in cells(graph)[method].members]


class OneOrder(EnsembleBuilder):
    """Forks with own orders for an epoch, then the order of the first, without a coupling."""

    name = "one_order"

    def build(self, cell: Cell) -> Sequence[Weights]:
        trunk = cell.trajectory(member=0).at(1)
        return [trunk.fork(order=j).at(2).fork(order=0).at(cell.epochs) for j in range(cell.size)]


class Few(EnsembleBuilder):
    """One member less than M."""

    name = "few"

    def build(self, cell: Cell) -> Sequence[Weights]:
        return [cell.trajectory(member=j).at(cell.epochs) for j in range(cell.size - 1)]


class Foreign(EnsembleBuilder):
    """Members that were trained on other images of the same shape."""

    name = "foreign"

    def build(self, cell: Cell) -> Sequence[Weights]:
        setting = Setting(toys.Blobs(toys.Blobs.Options(size=48)), cell.setting.architecture, cell.recipe)
        other = Cell(setting, cell.objective, cell.seed, cell.size)
        return [other.trajectory(member=j).at(cell.epochs) for j in range(cell.size)]


CATALOGUE = toys.catalogue(*(("ensemble_builder", builder) for builder in (OneOrder, Few, Foreign)))


def test_reductions(graph_of: GraphOf) -> None:
    """At strength 0 and at β = 1 they are forks that share one order, whose first is the reference: nothing is coupled."""
    methods: list[Any] = ["deep", "one_order"]
    methods += [{"repelled": {**FORK, "strength": 0}}, {"codistilled": {**FORK, "beta": 1}}]
    graph = graph_of(CATALOGUE, methods=methods)
    for name in ("repelled", "codistilled"):
        assert members(graph, name) == members(graph, "one_order")
        assert members(graph, name)[0] == members(graph, "deep")[0]
        assert cells(graph)[name].epochs_new == 0
    assert len(set(members(graph, "one_order"))) == 3


def test_budgets(graph_of: GraphOf) -> None:
    """t + M · (T − t), of which the first epochs are those of `constrained`."""
    graph = graph_of(methods=[{"constrained": FORK}, {"repelled": FORK}, {"codistilled": {"own_epochs": 2}}])
    found = {label: (cell.epochs_alone, cell.epochs_new) for label, cell in cells(graph).items()}
    assert found == {"constrained": (10, 10), "repelled": (10, 6), "codistilled": (10, 3)}


def diversity(lab: Lab) -> dict[str, float]:
    """Return the diversity of the predictions of each method."""
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    chosen = rows[rows["metric"] == "jensen_shannon_divergence"]
    return dict(zip(chosen["method"], chosen["value"].astype(float), strict=True))


def test_run(graph_of: GraphOf, lab: Lab) -> None:
    """Repelled members differ more than uncoupled ones with the same batches, codistilled ones less."""
    methods = [
        {"repelled": {**FORK, "strength": 0, "label": "uncoupled"}},
        {"repelled": {**FORK, "strength": 2}},
        {"repelled": {**FORK, "diversity": "jensen_gap", "strength": 1, "label": "gap"}},
        {"codistilled": FORK},
    ]
    recipe = {**RECIPE, "epochs": 8}
    graph = graph_of(methods=methods, metrics=METRICS, architectures=[{"perceptron": {"dropout": 0.2}}], recipe=recipe)
    lab.run(graph)
    found = diversity(lab)
    assert found["codistilled"] < found["uncoupled"] < found["repelled"]
    assert found["gap"] > found["uncoupled"]
    assert found["uncoupled"] > 0


def test_teachers_of_the_same_basin(graph_of: GraphOf) -> None:
    """They are the members of `constrained`; the default is another spelling of `deep`, and keys stay what they were."""
    own, following = {**FORK, "teachers": {"constrained": FORK}}, {"teacher": "next", "label": "next"}
    methods = [
        "deep",
        {"constrained": FORK},
        {"distilled": {**FORK, "label": "default"}},
        {"distilled": {**FORK, "teachers": "deep", "label": "named"}},
        {"distilled": {**FORK, "teachers": {"deep": {}}, "label": "built"}},
        {"distilled": {**own, "label": "own"}},
        {"distilled": {**own, **following}},
        {"distilled": {"label": "no fork"}},
        {"distilled": {"teachers": "distilled", "label": "twice"}},
    ]
    graph = graph_of(methods=methods)
    assert members(graph, "default") == members(graph, "named") == members(graph, "built")
    taught = {label: [member.trajectory.teacher.key for member in cells(graph)[label].members] for label in ("own", "next")}
    constrained = members(graph, "constrained")
    assert taught["own"] == constrained
    assert taught["next"] == [*constrained[1:], constrained[0]]
    same = [one == other for one, other in zip(members(graph, "own"), members(graph, "default"), strict=True)]
    assert same == [True, False, False]  # the reference is the first member of both methods
    assert [member.trajectory.teacher.key for member in cells(graph)["twice"].members] == members(graph, "no fork")


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        ("few", "teachers: few has 2 members; members is 3, and each needs a teacher"),
        ("foreign", "teachers: foreign is trained on blobs; the data set is blobs with other options or another version"),
    ],
)
def test_teachers_that_do_not_fit(graph_of: GraphOf, teachers: str, message: str) -> None:
    """The cell fails at planning, in one line."""
    graph = graph_of(CATALOGUE, methods=[{"distilled": {**FORK, "teachers": teachers}}])
    assert graph.cells[0].problem == f"method 'distilled' on blobs × perceptron: {message}"


@pytest.mark.parametrize(
    ("count", "method", "message"),
    [
        (2, {"repelled": {"strength": -0.5}}, "repelled.strength: -0.5 is out of range; a number of at least 0"),
        (
            2,
            {"repelled": {"diversity": "jensen"}},
            "repelled.diversity: unknown value 'jensen'; .* known: jensen_gap, jensen",
        ),
        (2, {"repelled": {"own_epochs": 0}}, "repelled.own_epochs: 0 is out of range; an integer of at least 1"),
        (2, {"repelled": {"own_epochs": 3}}, r"fork_epoch \+ own_epochs is 1 \+ 3 = 4; at most epochs - 1 = 3"),
        (2, {"repelled": {"fork_epoch": 4}}, "fork_epoch is 4; at most epochs - 1 = 3"),
        (1, "repelled", r"members is 1; repelled ties at least 2"),
        (2, {"codistilled": {"beta": 1.5}}, "codistilled.beta: 1.5 is out of range; a number of at least 0 and at most 1"),
        (2, {"codistilled": {"temperature": 0}}, "codistilled.temperature: 0 is out of range; a number above 0"),
        (2, {"codistilled": {"own_epochs": 3}}, r"fork_epoch \+ own_epochs is 1 \+ 3 = 4; at most epochs - 1 = 3"),
        (1, "codistilled", r"members is 1; codistilled ties at least 2"),
        (2, {"distilled": {"teachers": "constraind"}}, "distilled.teachers: .*constrained"),
        (2, {"distilled": {"teachers": {"constrained": {"fork_epoch": -1}}}}, "distilled.teachers.* -1 is out of range"),
        (
            2,
            {"distilled": {"teachers": {"constrained": {"fork_epoch": 9}}}},
            "teachers: constrained: fork_epoch is 9; at most epochs - 1 = 3",
        ),
        (1, {"distilled": {"teachers": "constrained", "teacher": "next"}}, 'teacher is "next"; at least 2 members, not 1'),
    ],
)
def test_mistakes(graph_of: GraphOf, count: int, method: Any, message: str) -> None:
    """They are reported in one line when the file is read."""
    with pytest.raises(BenchmarkError, match=message):
        graph_of(members=count, methods=[method], metrics=["ensemble_accuracy"])


def test_ablations() -> None:
    """The file plans without a problem. β = 1 is `constrained`, and each teacher is of the basin that its row names."""
    graph = plan(load_benchmark(ABLATIONS, load_catalogue()))
    assert not [cell.problem for cell in graph.cells if cell.problem]
    found = {cell.spec.method.label: cell for cell in graph.cells if cell.spec.seed == 0}
    keys = {label: [member.key for member in cell.members] for label, cell in found.items()}
    teachers = {}
    for label in ("distilled", "distilled next", "same basin own", "same basin next"):
        teachers[label] = [member.trajectory.teacher.key for member in found[label].members]
    assert keys["distilled alone"] == keys["constrained"]
    assert teachers["distilled"] == keys["deep"]
    assert teachers["distilled next"] == [*keys["deep"][1:], keys["deep"][0]]
    assert teachers["same basin own"] == keys["constrained"]
    assert teachers["same basin next"] == [*keys["constrained"][1:], keys["constrained"][0]]
    assert sum(cell.epochs_new for cell in found.values()) < 400
