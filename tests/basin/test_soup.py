"""`varied` and `soup`: recipes of members, averages against NumPy, greedy selection by hand, what cannot run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import toys
from conftest import RECIPE, Lab
from harness import DerivationContext, Recipe, Split, StateDict, TaskFailed
from harness.errors import BenchmarkError
from harness.plan.graph import Graph, PlannedCell
from harness.results.rows import read_rows
from harness.testing import check_derivation, derivation_context
from harness_basin.averages.averaging import GreedySoup, UniformSoup, accuracy_on, mean_weights
from harness_basin.averages.soup import Soup
from harness_vision.digits import Digits

GraphOf = Callable[..., Graph]


def cell(graph: Graph, label: str) -> PlannedCell:
    """Return the cell of a method."""
    (found,) = [one for one in graph.cells if one.spec.method.label == label]
    return found


def stored(lab: Lab, graph: Graph, label: str) -> list[dict[str, np.ndarray]]:
    """Return the stored weights of a method's members."""
    found = []
    for member in cell(graph, label).members:
        found.append(load_file(str(lab.store.path(member.location.object, member.location.part))))
    return found


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """A context of the blobs and the perceptron; its split `held_out` is the test split."""
    made = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    return DerivationContext(**{**vars(made), "split": lambda name: made.test if name == "held_out" else made.split(name)})


def members(context: DerivationContext, noises: list[float]) -> list[StateDict]:
    """Return networks trained for a few steps on the blobs, each with noise of another size on its weights."""
    network = context.network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    images = context.normalize(context.train.images)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), context.train.labels).backward()
        optimizer.step()
    found = []
    generator = torch.Generator().manual_seed(1)
    for noise in noises:
        state = {}
        for name, tensor in network.state_dict().items():
            state[name] = tensor + noise * torch.randn(tensor.shape, generator=generator)
        found.append(state)
    return found


def test_recipes_of_varied_members(graph_of: GraphOf, lab: Lab) -> None:
    """Members take the recipes in turn; one without changes is `constrained`'s member with that batch order."""
    recipes = [{}, {"weight_decay": 0.01}]
    graph = graph_of(methods=[{"constrained": {"fork_epoch": 1}}, {"varied": {"fork_epoch": 1, "recipes": recipes}}])
    varied, constrained = (cell(graph, label).members for label in ("varied", "constrained"))
    assert [member == other for member, other in zip(varied, constrained, strict=True)] == [True, False, True]
    assert [member.setting.recipe.weight_decay for member in varied] == [1e-4, 0.01, 1e-4]
    assert cell(graph, "varied").epochs_alone == 1 + 3 * 3
    lab.run(graph)
    assert set(read_rows(lab.out)["status"]) == {"done"}


@pytest.mark.parametrize(
    ("recipes", "problem"),
    [
        ([{"epochs": 3}], "recipes[0] changes epochs, which all members share"),
        ([{}, {"weight_decay": -1.0}], "recipes[1]: weight_decay is -1.0: Input should be greater than or equal to 0"),
        ([{"lr": 1.0}], "recipes[0]: lr is no field of a recipe"),
    ],
    ids=str,
)
def test_recipes_that_do_not_fit(graph_of: GraphOf, recipes: list[dict[str, Any]], problem: str) -> None:
    """The error names the entry, the field and its value."""
    with pytest.raises(BenchmarkError) as caught:
        graph_of(methods=[{"varied": {"recipes": recipes}}])
    assert caught.value.problems[0].endswith(problem)


def test_uniform_soup_of_stored_members(graph_of: GraphOf, lab: Lab) -> None:
    """It is NumPy's mean over the stored members, one network at their cost, and not degenerate by accident."""
    fork = {"constrained": {"fork_epoch": 1}}
    graph = graph_of(methods=[fork, {"soup": {"of": fork}}])
    lab.run(graph)
    (soup,) = stored(lab, graph, "soup")
    parents = stored(lab, graph, "constrained")
    for name, tensor in soup.items():
        expected = np.mean([parent[name].astype(np.float64) for parent in parents], axis=0)
        np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-8)
    assert (cell(graph, "soup").epochs_alone, cell(graph, "soup").epochs_new) == (1 + 3 * 3, 0)


def test_greedy_soup_against_a_search_by_hand(context: DerivationContext) -> None:
    """Parents are tried from the best on, and kept if the accuracy of the mean strictly rises."""
    parents = members(context, [0.4, 0.05, 3.0, 0.3, 0.05])
    (soup,), facts = GreedySoup().derive(parents, context)
    own = [accuracy_on(context, parent, context.test) for parent in parents]
    chosen = []
    best = -1.0
    for index in sorted(range(5), key=lambda i: -own[i]):
        found = accuracy_on(context, mean_weights([parents[i] for i in (*chosen, index)]), context.test)
        if found > best:
            chosen.append(index)
            best = found
    assert facts["chosen"] == chosen
    assert facts["accuracy"] == best == accuracy_on(context, soup, context.test)
    assert facts["accuracies"] == own
    assert best >= max(own)
    assert 2 not in chosen
    for name, tensor in soup.items():
        expected = np.mean([parents[i][name].double().numpy() for i in chosen], axis=0)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_contract_of_soups(context: DerivationContext) -> None:
    """They keep the contract of derivations; a soup of equal networks is that network."""
    parents = members(context, [0.1, 0.2])
    check_derivation(UniformSoup(), parents, context)
    check_derivation(GreedySoup(), parents, context)
    (same,), _ = UniformSoup().derive([parents[0]] * 3, context)
    assert all(torch.allclose(same[name], parents[0][name], rtol=1e-6) for name in same)


def test_greedy_soup_without_images(context: DerivationContext) -> None:
    """A split without images cannot rank anything."""
    empty = Split(context.test.images[:0], context.test.labels[:0])
    bare = DerivationContext(**{**vars(context), "split": lambda name: empty})
    with pytest.raises(TaskFailed, match="greedy soup: split 'held_out' has no images; at least one"):
        GreedySoup().derive(members(context, [0.1]), bare)


def test_soup_of_a_member_that_diverged(context: DerivationContext) -> None:
    """The average is refused by name instead of being NaN."""
    parents = members(context, [0.1, 0.1])
    parents[1]["1.weight"][0, 0] = float("nan")
    with pytest.raises(TaskFailed, match=r"average of weights: '1\.weight' is not finite; have members diverged\?"):
        UniformSoup().derive(parents, context)


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ({"soup": {"selection": "greedy"}}, "soup"),
        ({"swa": {"of": {"soup": {"selection": "greedy"}}}}, "swa"),
        ({"fused": {"of": {"soup": {"of": {"soup": {"selection": "greedy"}}}}, "by": None}}, "fused"),
    ],
    ids=["soup", "average of a soup", "two soups deep"],
)
def test_greedy_soup_of_a_data_set_without_held_out_images(graph_of: GraphOf, method: dict, label: str) -> None:
    """It is refused with its line, also as the method of another one; the message says how to get a held-out split."""
    expected = "split is \"held_out\" (the default); 'blobs' has none (a smaller train_size leaves images for 'held_out')"
    with pytest.raises(BenchmarkError, match=re.escape(f"{label} on blobs × perceptron: {expected}")) as caught:
        graph_of(methods=["deep", method])
    assert re.search(r"toy\.yaml:\d+:\d+: ", str(caught.value))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("train_size", [1437, None], ids=["all images", "the default"])
def test_held_out_split_of_no_image(train_size: int | None) -> None:
    """All 1,437 training images leave none to choose by."""
    soup = Soup(Soup.Options(of="deep", selection="greedy"))
    with pytest.raises(ValueError, match=r"'digits' has none \(a smaller train_size leaves images for 'held_out'\)$"):
        soup.check_dataset(Digits(Digits.Options(train_size=train_size)), Recipe())
    soup.check_dataset(Digits(Digits.Options(train_size=1436)), Recipe())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"batch_size": 97}, "recipes[1]: batch_size is 97; at most 96, the number of training images"),
        (
            {"augmentation": {"crop_padding": 4}},
            "recipes[1]: augmentation.crop_padding is 4; at most 3 for images of 4×4 pixels",
        ),
        ({"batchsize": 9}, "recipes[1]: batchsize is no field of a recipe"),
    ],
    ids=["batch", "crop", "unknown"],
)
def test_varied_recipes_that_do_not_fit_the_images(graph_of: GraphOf, changes: dict, problem: str) -> None:
    """A member's own recipe is checked like that of the benchmark, before anything is trained."""
    with pytest.raises(BenchmarkError, match=re.escape(f"varied on blobs × perceptron: {problem}")):
        graph_of(methods=[{"varied": {"recipes": [{}, changes]}}])


def test_greedy_soup_of_digits(tmp_path: Path) -> None:
    """With a smaller training set, the rest is held out, and the soup runs from a file to a row."""
    import harness

    content = {
        "name": "soup",
        "seeds": [0],
        "members": 2,
        "datasets": [{"digits": {"train_size": 200, "test_size": 60}}],
        "architectures": [{"resnet20": {"width": 0.25}}],
        "methods": [{"soup": {"selection": "greedy"}}],
        "metrics": ["ensemble_accuracy"],
        "recipe": {**RECIPE, "epochs": 2, "learning_rate": 0.02},
    }
    run = harness.run(content, out=tmp_path / "run", store=tmp_path / "store", workers=1, device="cpu", progress=False)
    assert set(run.rows.status) == {"done"}
