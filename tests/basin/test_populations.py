"""Populations on toy data: their reductions to other methods, their budgets, and options that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load_file

from conftest import Lab
from harness.errors import BenchmarkError
from harness.plan.graph import Graph, PlannedCell
from harness.results.rows import read_rows

GraphOf = Callable[..., Graph]
METRICS = ["ensemble_accuracy", "mean_member_accuracy", {"joint_connectivity": {"draws": 2}}]


def cells(graph: Graph) -> dict[str, PlannedCell]:
    """Return the cells of a graph by method."""
    return {cell.spec.method.label: cell for cell in graph.cells}


def members(graph: Graph, method: str) -> list[str]:
    """Return the keys of a method's members."""
    return [member.key for member in cells(graph)[method].members]


def test_reductions(graph_of: GraphOf) -> None:
    """Without pull or shuffle they are the constrained ensemble from epoch 0, or the deep one: nothing new is trained."""
    methods: list[Any] = ["deep", {"constrained": {"fork_epoch": 0}}]
    for name, options in (("papa", {"alpha": 1}), ("wash", {"p": 0})):
        for start in ("common", "independent"):
            methods.append({name: {**options, "start": start, "label": f"{name} {start}"}})
    graph = graph_of(methods=methods)
    for name in ("papa", "wash"):
        assert members(graph, f"{name} common") == members(graph, "constrained")
        assert members(graph, f"{name} independent") == members(graph, "deep")
        assert cells(graph)[f"{name} common"].epochs_new == 0


def test_simplex_with_one_vertex(graph_of: GraphOf) -> None:
    """It is a plain training."""
    graph = graph_of(members=1, methods=["deep", "simplex"], metrics=["ensemble_accuracy"])
    assert members(graph, "simplex") == members(graph, "deep")


def test_budgets(graph_of: GraphOf) -> None:
    """M · T for populations; T for a simplex, or what its option says."""
    methods = ["papa", "wash", {"papa": {"start": "independent", "label": "apart"}}, "simplex"]
    methods.append({"simplex": {"epochs": 12, "label": "longer"}})
    found = {label: (cell.epochs_alone, cell.epochs_new) for label, cell in cells(graph_of(methods=methods)).items()}
    assert found == {"papa": (12, 12), "wash": (12, 12), "apart": (12, 12), "simplex": (4, 4), "longer": (12, 12)}


def test_run(graph_of: GraphOf, lab: Lab) -> None:
    """Each is trained by one task and gives rows; members differ, and are not those of other methods."""
    methods = ["constrained", {"papa": {"every": 2, "alpha": 0.5}}, {"wash": {"p": 0.1}}, "simplex"]
    graph = graph_of(members=2, methods=methods, metrics=METRICS, architectures=[{"perceptron": {"batchnorm": True}}])
    lab.run(graph)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    seen: list[bytes] = []
    for name in ("constrained", "papa", "wash", "simplex"):
        for member in cells(graph)[name].members:
            state = load_file(str(lab.store.path(member.location.object, member.location.part)))
            seen.append(state["1.weight"].numpy().tobytes())
    assert len(set(seen)) == len(seen)


def test_recipes_of_members(graph_of: GraphOf, lab: Lab) -> None:
    """Until the first pull, members are those that are trained alone with the same recipes, to the bit."""
    recipes = [{"label_smoothing": 0.3}, {"weight_decay": 0.1, "augmentation": {"crop_padding": 0}}]
    alone = {"varied": {"fork_epoch": 0, "recipes": recipes}}
    late = {"papa": {"every": 1000, "recipes": recipes}}
    plain = {"papa": {"every": 1000, "label": "plain"}}
    graph = graph_of(members=3, methods=[alone, late, plain], metrics=["ensemble_accuracy"])
    lab.run(graph)
    states: dict[str, list[bytes]] = {}
    for name, cell in cells(graph).items():
        states[name] = []
        for member in cell.members:
            state = load_file(str(lab.store.path(member.location.object, member.location.part)))
            states[name].append(b"".join(state[tensor].numpy().tobytes() for tensor in sorted(state)))
    assert states["papa"] == states["varied"]
    assert not set(states["papa"]) & set(states["plain"])


@pytest.mark.parametrize(
    ("count", "method", "message"),
    [
        (2, {"papa": {"alpha": 1.5}}, "papa.alpha: 1.5 is out of range; a number of at least 0 and at most 1"),
        (2, {"papa": {"alpha": -0.1}}, "papa.alpha: -0.1 is out of range; a number of at least 0 and at most 1"),
        (2, {"papa": {"every": 0}}, "papa.every: 0 is out of range; an integer of at least 1"),
        (2, {"papa": {"start": "comon"}}, "papa.start: .*'common'"),
        (2, {"wash": {"p": 2}}, "wash.p: 2 is out of range; a number of at least 0 and at most 1"),
        (2, {"wash": {"p": -1}}, "wash.p: -1 is out of range; a number of at least 0 and at most 1"),
        (2, {"simplex": {"beta": -1}}, "simplex.beta: -1 is out of range; a number of at least 0"),
        (2, {"simplex": {"concentration": 0}}, "simplex.concentration: 0 is out of range; a number above 0"),
        (2, {"simplex": {"epochs": 0}}, "simplex.epochs: 0 is out of range; an integer of at least 1 or null"),
        (2, {"papa": {"recipes": []}}, "papa.recipes: .*at least 1"),
        (2, {"papa": {"recipes": [{"epochs": 3}]}}, r"recipes\[0\] changes epochs, which all members share"),
        (2, {"papa": {"recipes": [{}, {"learning_rate": 1}]}}, r"recipes\[1\] changes learning_rate, which all members share"),
        (2, {"wash": {"recipes": [{"label_smoothing": 2}]}}, r"recipes\[0\]: label_smoothing is 2: "),
        (2, {"wash": {"recipes": [{"labels": 2}]}}, r"recipes\[0\]: labels is no field of a recipe"),
        (
            2,
            {"papa": {"recipes": [{}, {"augmentation": {"crop_padding": 64}}]}},
            r"recipes\[1\]: augmentation.crop_padding is 64; at most",
        ),
        (1, "papa", r"members is 1; papa ties at least 2"),
        (1, "wash", r"members is 1; wash ties at least 2"),
    ],
)
def test_mistakes(graph_of: GraphOf, count: int, method: Any, message: str) -> None:
    """They are reported in one line when the file is read."""
    with pytest.raises(BenchmarkError, match=message):
        graph_of(members=count, methods=[method], metrics=["ensemble_accuracy"])
