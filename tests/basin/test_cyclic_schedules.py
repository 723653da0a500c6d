"""`snapshot` and `fge` on toy data: learning rates by hand, reductions to other methods, options that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import RECIPE, Lab
from harness.errors import BenchmarkError
from harness.plan.graph import Graph, PlannedCell

GraphOf = Callable[..., Graph]
STEPS = 6
"""Steps per epoch of the toy recipe on the blobs."""


def cell(graph: Graph, label: str) -> PlannedCell:
    """Return the cell of a method."""
    (found,) = [one for one in graph.cells if one.spec.method.label == label]
    assert not found.problem
    return found


def rates(lab: Lab, key: str) -> list[float]:
    """Return the rate of the last step of every epoch since the fork, from the history of a stored checkpoint."""
    return [record["learning_rate"] for record in lab.store.meta(key)["history"]]


def weights(lab: Lab, graph: Graph, label: str) -> list[dict[str, torch.Tensor]]:
    """Return the stored weights of a method's members."""
    found = []
    for member in cell(graph, label).members:
        found.append(load_file(str(lab.store.path(member.location.object, member.location.part))))
    return found


def test_members_of_a_snapshot_ensemble(graph_of: GraphOf) -> None:
    """With T = 6 and M = 3, members are at the epochs 2, 4 and 6; with cycle = T, at T, 2T and 3T, and the first is deep's."""
    methods = ["deep", "snapshot", {"snapshot": {"cycle": 6, "label": "long"}}]
    graph = graph_of(methods=methods, members=3, recipe={**RECIPE, "epochs": 6})
    assert [member.epoch for member in cell(graph, "snapshot").members] == [2, 4, 6]
    assert [member.epoch for member in cell(graph, "long").members] == [6, 12, 18]
    assert cell(graph, "long").members[0] == cell(graph, "deep").members[0]
    assert (cell(graph, "snapshot").epochs_alone, cell(graph, "long").epochs_alone) == (6, 18)


def test_snapshot_ensemble_of_one_member(graph_of: GraphOf) -> None:
    """It is the reference model: the same key, so nothing is trained for it."""
    graph = graph_of(methods=["deep", "snapshot"], members=1, metrics=["ensemble_accuracy"])
    assert cell(graph, "snapshot").members == cell(graph, "deep").members
    assert cell(graph, "snapshot").epochs_new == 0


def test_rates_of_a_snapshot_ensemble(graph_of: GraphOf, lab: Lab) -> None:
    """The first cycle ends with the recipe's schedule for c epochs; later ones fall from the peak along ½ (1 + cos π t/c)."""
    graph = graph_of(methods=[{"snapshot": {"cycle": 2, "peak": 0.08}}], members=3, recipe={**RECIPE, "warmup": 0.25})
    lab.run(graph)
    first, _, last = cell(graph, "snapshot").members
    ends = (1 - 0.5 / STEPS, 2 - 0.5 / STEPS)  # of the epochs of a cycle: the middle of the last step
    after_warmup = [0.1 * 0.5 * (1 + math.cos(math.pi * (time - 0.5) / 1.5)) for time in ends]
    restarted = [0.08 * 0.5 * (1 + math.cos(math.pi * time / 2)) for time in ends]
    assert rates(lab, first.key) == pytest.approx(after_warmup, rel=1e-9)
    assert rates(lab, last.key) == pytest.approx([*restarted, *restarted], rel=1e-9)


def test_members_of_a_fast_geometric_ensemble(graph_of: GraphOf) -> None:
    """With T = 10, cycles of 4 epochs begin at 8: members are at 10, 14 and 18. What precedes is deep's first training."""
    recipe = {**RECIPE, "epochs": 10}
    graph = graph_of(methods=["deep", {"fge": {"cycle": 4}}], members=3, recipe=recipe)
    members = cell(graph, "fge").members
    assert [member.epoch for member in members] == [10, 14, 18]
    assert members[0].origin.start is not None
    assert members[0].origin.start.origin == cell(graph, "deep").members[0].origin
    assert (cell(graph, "fge").epochs_alone, cell(graph, "fge").epochs_new) == (18, 10)


def test_rates_of_a_fast_geometric_ensemble(graph_of: GraphOf, lab: Lab) -> None:
    """The rate is lowest at the members, and falls and rises along straight lines."""
    graph = graph_of(methods=[{"fge": {"start": 2, "cycle": 4, "high": 0.05, "low": 0.01}}], members=2)
    lab.run(graph)
    found = rates(lab, cell(graph, "fge").members[-1].key)
    expected = []
    for epoch in range(1, 7):
        share = ((epoch - 0.5 / STEPS) % 4) / 4
        expected.append(0.05 - 0.04 * 2 * min(share, 1 - share))
    assert found == pytest.approx(expected, rel=1e-9)
    assert max(found[1], found[5]) < min(found[0], *found[2:5])  # members are at the ends of these two epochs


def test_fast_geometric_ensemble_with_equal_rates(graph_of: GraphOf, lab: Lab) -> None:
    """It is a run at a constant rate, to the bit: SWE's samples at the same epochs."""
    recipe = {**RECIPE, "epochs": 3, "warmup": 0.0}
    swe: dict[str, Any] = {"swe": {"floor": 0.08}}
    fge = {"fge": {"start": 1, "cycle": 6, "high": 0.08, "low": 0.08}}
    graph = graph_of(methods=[swe, fge], members=2, recipe=recipe)
    start = cell(graph, "swe").members[0].origin.start
    assert start is not None
    assert start.epoch == 1
    fge["fge"]["cycle"] = 4  # members at 3 and 7
    graph = graph_of(methods=[swe, fge], members=1, recipe=recipe, metrics=["ensemble_accuracy"])
    assert [member.epoch for member in cell(graph, "fge").members] == [3]
    lab.run(graph)
    (constant,) = weights(lab, graph, "swe")
    (cyclic,) = weights(lab, graph, "fge")
    assert all(torch.equal(constant[name], cyclic[name]) for name in constant)


@pytest.mark.parametrize(
    ("method", "changes", "line"),
    [
        ("snapshot", {"recipe": {**RECIPE, "epochs": 2}}, "cycle is null: T/M = 2/3 epochs; at least 1, so set a cycle"),
        ({"snapshot": {"cycle": 3}}, {}, "cycle is 3; a divisor or a multiple of epochs = 4"),
        ({"snapshot": {"cycle": 6}}, {}, "cycle is 6; a divisor or a multiple of epochs = 4"),
        ({"fge": {"start": 5}}, {}, "start is 5; at most epochs = 4"),
        ({"fge": {"high": 0.2}}, {}, "high is 0.2; at most learning_rate = 0.1"),
        ({"fge": {"low": 0.06}}, {}, "low is 0.06; at most high = 0.05"),
        ({"fge": {"low": 0.02}}, {"recipe": {**RECIPE, "learning_rate": 0.01}}, "low is 0.02; at most high = 0.005"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(graph_of: GraphOf, method: Any, changes: dict[str, Any], line: str) -> None:
    """The error says which option, its value, and what the recipe allows."""
    with pytest.raises(BenchmarkError) as caught:
        graph_of(methods=[method], members=3, **changes)
    assert caught.value.problems[0].endswith(f"on blobs × perceptron: {line}")


def test_odd_cycle_of_a_fast_geometric_ensemble(graph_of: GraphOf) -> None:
    """Members are at mid-cycle, which is the end of an epoch only for an even cycle."""
    with pytest.raises(BenchmarkError, match=r"cycle: 3 is not allowed; an integer of at least 2 and a multiple of 2"):
        graph_of(methods=[{"fge": {"cycle": 3}}])
