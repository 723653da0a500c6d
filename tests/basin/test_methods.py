"""The paper's methods on toy data: the weights of their members, and q̄ against an independent computation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import toys
from conftest import RECIPE, Lab
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows

GraphOf = Callable[..., Graph]


def files(lab: Lab, graph: Graph, method: str) -> list[str]:
    """Return the paths of a method's members."""
    cell = next(c for c in graph.cells if c.spec.method.label == method)
    return [str(lab.store.path(m.location.object, m.location.part)) for m in cell.members]


def value(lab: Lab, method: str, metric: str) -> float:
    """Return a measured number."""
    rows = read_rows(lab.out)
    found = rows[(rows["method"] == method) & (rows["metric"] == metric)]
    assert list(found["status"]) == ["done"]
    return float(found["value"].iloc[0])


def plain_network(state: dict[str, torch.Tensor]) -> nn.Module:
    """Return the toy network with given weights, in double precision."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    model.load_state_dict(state)
    return model.eval().double()


def accuracy(model: nn.Module) -> float:
    """Return a network's accuracy on the test blobs in percent, in double precision."""
    _, test = toys.Blobs().load(None)  # type: ignore[arg-type]
    images = (test.images.double() / 255 - 0.5) / 0.25
    with torch.no_grad():
        return 100 * float((model(images).argmax(1) == test.labels).double().mean())


def splitmix(key: int, counter: int) -> int:
    """Return output `counter` of SplitMix64 from a key, computed with Python integers."""
    mask = (1 << 64) - 1
    z = (key + counter * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def dirichlet(seed: int, draws: int, members: int) -> np.ndarray:
    """Return the λ of a seed (draws, members): normalized exponential numbers from the stream's uniform numbers."""
    keys = []
    for half in range(2):
        name = json.dumps(["metric", seed, "joint_connectivity", half], separators=(",", ":"))
        keys.append(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    flat = []
    for i in range(draws * members):
        high, low = ((splitmix(key, i) >> 40) * 2.0**-24 for key in keys)
        flat.append(-math.log1p(-(high + low * 2.0**-24)))
    exponentials = np.array(flat).reshape(draws, members)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["deep", "constrained"])
def test_joint_connectivity_against_an_independent_computation(graph_of: GraphOf, lab: Lab, method: str) -> None:
    """q̄ equals (1/N) Σ [Acc(Σ λ_i θ_i) − Σ λ_i Acc(θ_i)], computed from the stored weights."""
    graph = graph_of(metrics=[{"joint_connectivity": {"draws": 20}}])
    lab.run(graph)
    states = [load_file(path) for path in files(lab, graph, method)]
    alone = [accuracy(plain_network(state)) for state in states]
    q = []
    for weights in dirichlet(0, 20, len(states)):
        mixed = {}
        for name in states[0]:
            mixed[name] = sum(float(w) * state[name].double() for w, state in zip(weights, states, strict=True))
        q.append(accuracy(plain_network(mixed)) - float(np.dot(weights, alone)))
    assert value(lab, method, "joint_connectivity") == pytest.approx(np.mean(q), abs=1e-9)
    assert value(lab, method, "joint_connectivity_worst_draw") == pytest.approx(np.min(q), abs=1e-9)


def test_first_constrained_member(graph_of: GraphOf, lab: Lab) -> None:
    """It is the reference model: both have one file."""
    graph = graph_of()
    assert files(lab, graph, "deep")[0] == files(lab, graph, "constrained")[0]


def test_distilled_ensemble_with_beta_of_one(graph_of: GraphOf, lab: Lab) -> None:
    """It is the constrained ensemble: the files and numbers are the same, and nothing is trained."""
    methods: list[Any] = ["deep", {"constrained": {"fork_epoch": 1}}, {"distilled": {"fork_epoch": 1, "beta": 1.0}}]
    graph = graph_of(methods=methods)
    assert files(lab, graph, "distilled") == files(lab, graph, "constrained")
    assert graph.cells[2].epochs_new == 0
    lab.run(graph)
    assert value(lab, "distilled", "joint_connectivity") == value(lab, "constrained", "joint_connectivity")


def test_permuted_ensembles(graph_of: GraphOf, lab: Lab) -> None:
    """The weights and the connectivity differ from the deep ensemble's; the accuracies are exactly equal."""
    graph = graph_of(methods=["deep", "permuted", "multi_permuted"], seeds=[0])
    lab.run(graph)
    for method in ("permuted", "multi_permuted"):
        assert value(lab, method, "ensemble_accuracy") == value(lab, "deep", "ensemble_accuracy")
        assert value(lab, method, "joint_connectivity") > value(lab, "deep", "joint_connectivity")
        assert files(lab, graph, method)[1:] != files(lab, graph, "deep")[1:]
    cell = graph.cells[1]
    meta = lab.store.meta(cell.members[1].location.object)
    assert meta["facts"]["function_difference"] < 1e-9
    assert meta["facts"]["trace"]


def test_weights_of_a_permuted_member(graph_of: GraphOf, lab: Lab) -> None:
    """The hidden units are the deep member's in another order."""
    graph = graph_of(methods=["deep", "permuted"])
    lab.run(graph)
    deep, permuted = (load_file(files(lab, graph, method)[1]) for method in ("deep", "permuted"))
    rows = {tuple(row.tolist()) for row in deep["1.weight"]}
    assert {tuple(row.tolist()) for row in permuted["1.weight"]} == rows
    assert not torch.equal(deep["1.weight"], permuted["1.weight"])


def test_next_member_as_teacher(graph_of: GraphOf) -> None:
    """With `teacher: next`, the teacher of member j is deep member j + 1, that of the last member the first."""
    graph = graph_of(methods=["deep", {"distilled": {"teacher": "next"}}, {"distilled_deep": {"teacher": "next"}}])
    deep = list(graph.cells[0].members)
    for cell in graph.cells[1:]:
        teachers = [m.trajectory.teacher for m in cell.members]
        assert teachers == [deep[1], deep[2], deep[0]]


def test_inheritance_options(graph_of: GraphOf, lab: Lab) -> None:
    """Forks without momentum or with a new schedule have other keys; only a new schedule has other learning rates."""
    variants = [
        {"constrained": {"fork_epoch": 1}},
        {"constrained": {"fork_epoch": 1, "inherit_momentum": False, "label": "fresh"}},
        {"constrained": {"fork_epoch": 1, "inherit_schedule": False, "label": "restarted"}},
    ]
    graph = graph_of(methods=variants)
    keys = set()
    for cell in graph.cells:
        keys.update(member.key for member in cell.members)
    assert len(keys) == 9
    lab.run(graph)
    rates = {}
    for cell in graph.cells:
        history = lab.store.meta(cell.members[1].key)["history"]
        rates[cell.spec.method.label] = [record["learning_rate"] for record in history]
    assert rates["constrained"] == rates["fresh"]
    assert rates["constrained"] != rates["restarted"]


def test_fork_epoch_equal_to_the_number_of_epochs(graph_of: GraphOf) -> None:
    """The error says what is allowed."""
    with pytest.raises(BenchmarkError, match=r"fork_epoch is 4; at most epochs - 1 = 3"):
        graph_of(methods=[{"constrained": {"fork_epoch": 4}}])


def refusals(graph_of: GraphOf, **changes: Any) -> list[str]:
    """Return the errors of a benchmark, without the file's name."""
    with pytest.raises(BenchmarkError) as caught:
        graph_of(**changes)
    return [line.partition("toy.yaml:")[2].partition(": ")[2] for line in caught.value.problems]


@pytest.mark.parametrize(
    ("methods", "changes", "line"),
    [
        (
            ["swe"],
            {"recipe": {**RECIPE, "learning_rate": 0.001}},
            "swe on blobs × perceptron: floor is 0.01 (the default); below the peak of the schedule, learning_rate = 0.001",
        ),
        (
            [{"swe": {"floor": 0.1, "label": "high"}}],
            {},
            "high on blobs × perceptron: floor is 0.1; below the peak of the schedule, learning_rate = 0.1",
        ),
        (
            [{"swe": {"grid": {"floor": [0.05, 0.2]}}}],
            {},
            "swe(floor=0.2) on blobs × perceptron: floor is 0.2; below the peak of the schedule, learning_rate = 0.1",
        ),
        (
            ["swe"],
            {"settings": [{"dataset": "blobs", "recipe": {"learning_rate": 0.01}}]},
            "swe on blobs × perceptron: floor is 0.01 (the default); below the peak of the schedule, learning_rate = 0.01",
        ),
        (
            ["swe"],
            {"settings": [{"method_options": {"floor": 0.5}}]},
            "swe on blobs × perceptron: floor is 0.5; below the peak of the schedule, learning_rate = 0.1",
        ),
        (
            ["constrained"],
            {"recipe": {**RECIPE, "epochs": 1}},
            "constrained on blobs × perceptron: fork_epoch is 1 (the default); at most epochs - 1 = 0",
        ),
        (
            ["distilled"],
            {"recipe": {**RECIPE, "epochs": 1}},
            "distilled on blobs × perceptron: fork_epoch is 1 (the default); at most epochs - 1 = 0",
        ),
        (
            [{"distilled": {"fork_epoch": 4}}],
            {},
            "distilled on blobs × perceptron: fork_epoch is 4; at most epochs - 1 = 3",
        ),
        (
            [{"distilled": {"teacher": "next"}}],
            {"members": 1, "metrics": ["ensemble_accuracy"]},
            'distilled on blobs × perceptron: teacher is "next"; at least 2 members, not 1',
        ),
        (
            [{"distilled_deep": {"teacher": "next"}}],
            {"members": 1, "metrics": ["ensemble_accuracy"]},
            'distilled_deep on blobs × perceptron: teacher is "next"; at least 2 members, not 1',
        ),
    ],
    ids=str,
)
def test_options_that_do_not_fit_the_recipe(graph_of: GraphOf, methods: list[Any], changes: dict[str, Any], line: str) -> None:
    """The error names the method, the option, whether it is the default, and what the recipe allows."""
    assert refusals(graph_of, methods=methods, **changes) == [line]


@pytest.mark.parametrize("epochs", [1, 2, 4])
@pytest.mark.parametrize("members", [1, 2])
def test_shortest_recipes(graph_of: GraphOf, lab: Lab, epochs: int, members: int) -> None:
    """Every method trains and measures without failures, and its members differ."""
    forks: list[Any] = [{name: {"fork_epoch": 0, "inherit_schedule": False}} for name in ("constrained", "distilled")]
    methods = ["deep", "swe", "permuted", "multi_permuted", "distilled_deep", *forks]
    recipe = {**RECIPE, "epochs": epochs, "warmup": 0.5}
    graph = graph_of(methods=methods, recipe=recipe, members=members, metrics=["ensemble_accuracy"])
    assert lab.run(graph).failures == {}
    for cell in graph.cells:
        assert len({member.key for member in cell.members}) == members


def test_teacher_view_option(graph_of: GraphOf, lab: Lab) -> None:
    """The option changes the student if the recipe has augmentation, and does not otherwise."""
    no_augmentation = {"crop_padding": 0, "horizontal_flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    views: list[Any] = ["deep", "distilled", {"distilled": {"teacher_view": "plain", "label": "plain"}}]
    for augmentation, same in (({**no_augmentation, "brightness": 0.5}, False), (no_augmentation, True)):
        graph = graph_of(methods=views, recipe={**RECIPE, "augmentation": augmentation})
        lab.run(graph)
        augmented, plain = (load_file(files(lab, graph, method)[1]) for method in ("distilled", "plain"))
        close = all(torch.allclose(augmented[name], plain[name], atol=1e-5) for name in augmented)
        assert close == same


def test_normalization_option(graph_of: GraphOf, lab: Lab) -> None:
    """The data set's own constants, given explicitly, train the same weights; other constants train other weights."""
    weights = []
    for normalization in (None, [[0.5], [0.25]], [[0.0], [1.0]]):
        graph = graph_of(methods=["deep"], recipe={**RECIPE, "normalization": normalization})
        lab.run(graph)
        weights.append(load_file(files(lab, graph, "deep")[0]))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["1.weight"], weights[2]["1.weight"])
