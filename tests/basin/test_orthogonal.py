"""The alignment `orthogonal`: its contract, its control row, learned maps, and networks that it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from basin.matching.residual_networks import largest_difference
from conftest import Lab
from fake_device import DEVICE, FakeDevice
from harness import DerivationContext, Split, StateDict, TaskFailed, streams
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, check_derivation, derivation_context
from harness_basin.alignments import OrthogonalMatching
from harness_basin.matching import (
    act,
    derive_linear_groups,
    derive_symmetry,
    functional_difference,
    permute,
    random_elements,
    random_permutations,
)
from harness_vision.vit import ViT

GraphOf = Callable[..., Graph]
CATALOGUE = toys.catalogue()
SIZES: dict[str, Any] = {"patch": 2, "width": 8, "mlp": 12, "depth": 1, "heads": 2, "dropout": 0.0}


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """Return a context for small transformers."""
    return derivation_context(ViT(ViT.Options(**SIZES)), toys.Blobs(), tmp_path)


def alignment(members: int, **options: Any) -> OrthogonalMatching:
    """Return the alignment of a number of members."""
    return OrthogonalMatching(OrthogonalMatching.Options(**options, members=members))


def random_states(context: DerivationContext, count: int) -> list[StateDict]:
    """Return networks with independent random weights, normalization layers included."""
    states = []
    for number in range(count):
        with streams.seeded(streams.key("test_orthogonal", number)):
            state = context.network().state_dict()
            states.append({name: tensor + 0.3 * torch.randn_like(tensor) for name, tensor in state.items()})
    return states


def outputs_differ(context: DerivationContext, one: StateDict, other: StateDict) -> float:
    """Return the relative difference of two networks' outputs."""
    return functional_difference(context.network().eval(), one, other, context.normalize(context.test.images[:16]))


def test_contract(context: DerivationContext) -> None:
    """Planted elements end at the weights of the first member, and functions stay."""
    network = context.network().eval()
    images = context.normalize(context.test.images[:2])
    symmetry = derive_symmetry(network, images)
    linear = [group for group in derive_linear_groups(network, images, symmetry).groups if group.kind != "scale"]

    def planted(state: StateDict, seed: int) -> StateDict:
        exact = {name: tensor.double() for name, tensor in state.items()}
        moved = permute(symmetry, random_permutations(symmetry, seed), act(linear, random_elements(linear, seed), exact))
        return {name: tensor.float() for name, tensor in moved.items()}

    check_alignment(CATALOGUE.choose("alignment", "orthogonal"), context, planted, exact=False)


def test_normal_form_alone(context: DerivationContext) -> None:
    """Without rotations each member is its own normal form, whatever the others are, and equal members are equal."""
    states = random_states(context, 3)
    together, facts = alignment(3, rotate=False).derive(states, context)
    for state, moved in zip(states, together, strict=True):
        (alone,), _ = alignment(1, rotate=False).derive([state], context)
        assert largest_difference(alone, moved) == 0
        assert torch.equal(moved["norm.weight"], torch.ones(8))
        assert outputs_differ(context, state, moved) <= 1e-5
    assert facts["distance"] == facts["normal_form_distance"]
    assert facts["assignments"] == 0
    same, _ = alignment(2).derive([states[0], states[0]], context)
    assert largest_difference(*same) <= 1e-6


def test_facts(context: DerivationContext) -> None:
    """The distance falls, the objective rises, and nothing is read or trained."""
    states = random_states(context, 3)
    for maps in ("orthogonal", "invertible"):
        _, unmoved = alignment(3, rotate=False, maps=maps).derive(states, context)
        _, facts = alignment(3, maps=maps).derive(states, context)
        assert facts["distance"] < facts["normal_form_distance"] == unmoved["distance"]
        assert facts["objective"] > unmoved["objective"]
        assert facts["assignments"] > 0
        assert (facts["images"], facts["gradient_steps"]) == (0, 0)
        assert max(facts["function_differences"]) <= 1e-9


@pytest.mark.parametrize(("maps", "members"), [("invertible", 2), ("orthogonal", 3)])
def test_learned_maps(maps: str, members: int, context: DerivationContext) -> None:
    """Training lowers the loss between members, functions stay, and a continued training gives the same bits."""
    states = random_states(context, members)
    method = alignment(members, maps=maps, learn_epochs=3, batch_size=32, learning_rate=0.03)
    assert method.epochs == 3
    moved = check_derivation(method, states, context)
    start, _ = alignment(members, maps=maps).derive(states, context)
    _, facts = method.derive(states, context)
    assert len(facts["losses"]) == 4
    assert min(facts["losses"]) < facts["losses"][0]
    assert facts["gradient_steps"] == 9
    assert facts["images"] == 3 * 96 + 5 * 4 * 96
    assert facts["worse_than_identity"] == (min(facts["losses"]) > facts["normal_form_loss"])
    assert largest_difference(moved[0], start[0]) == 0
    assert largest_difference(moved[1], start[1]) > 0
    for state, after in zip(states, moved, strict=True):
        assert outputs_differ(context, state, after) <= 1e-5


def test_learned_maps_on_another_device(context: DerivationContext) -> None:
    """Images and latent matrices are on the device, and the weights are those of a training on the CPU."""
    states = random_states(context, 3)
    method = alignment(3, learn_epochs=1, batch_size=48)
    expected, _ = method.derive(states, context)

    def batches(epoch: int, batch_size: int, *, augmented: bool = False) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in context.batches(epoch, batch_size, augmented=augmented):
            yield images.to(DEVICE), labels.to(DEVICE)

    with FakeDevice():
        there = replace(context, device=DEVICE, normalize=lambda images: context.normalize(images).to(DEVICE), batches=batches)
        moved, _ = method.derive(states, there)
    for one, other in zip(moved, expected, strict=True):
        assert largest_difference(one, other) == 0


def test_learned_maps_that_get_worse(context: DerivationContext) -> None:
    """With a learning rate that is too large, the result is the start, which is among the candidates."""
    (state,) = random_states(context, 1)
    state["head.weight"] *= 1000
    network = context.network().eval()
    network.load_state_dict(state)
    images = context.normalize(context.train.images)
    with torch.no_grad():
        state["head.bias"] -= network(images).mean(0)  # all classes occur
        network.load_state_dict(state)
        labels = network(images).argmax(1)  # the network's loss is small, and its copy's, too

    def batches(epoch: int, batch_size: int, *, augmented: bool = False) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield images, labels

    fitted = replace(context, train=Split(context.train.images, labels), batches=batches)
    start, _ = alignment(2).derive([state, state], fitted)
    moved, facts = alignment(2, learn_epochs=2, learning_rate=1.0).derive([state, state], fitted)
    assert min(facts["losses"][1:]) > facts["losses"][0]
    assert largest_difference(moved[1], start[1]) <= 1e-6


def test_loss_that_is_not_finite(context: DerivationContext) -> None:
    """The message names the number of steps and the option that may help."""
    states = random_states(context, 2)
    for state in states:
        state["head.weight"] *= 1e38
    message = r"^orthogonal: the loss on the subset after step 0 is (nan|inf); .*, or is learning_rate, 0\.001, too large\?$"
    with pytest.raises(TaskFailed, match=message):
        alignment(2, learn_epochs=1).derive(states, context)


def test_network_without_a_stream(tmp_path: Path) -> None:
    """A perceptron has nothing to rotate, and the message says what is missing."""
    context = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    states = [context.network().state_dict()] * 2
    message = r"^the network has no residual stream that can be rotated: .*as in pre-norm transformers; use another alignment$"
    with pytest.raises(TaskFailed, match=message):
        alignment(2).derive(states, context)


def test_members_that_have_diverged(context: DerivationContext) -> None:
    """The member is named."""
    states = random_states(context, 2)
    states[1]["norm.weight"][0] = torch.inf
    with pytest.raises(TaskFailed, match=r"^parent 1 of the alignment: 'norm\.weight' has values that are not finite; has"):
        alignment(2).derive(states, context)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn_epochs": 2, "rotate": False}, r"learn_epochs is 2, but rotate is false; leave one of them out$"),
        ({"maps": "unitary"}, r"aligned\.by\.orthogonal\.maps: .*'unitary'"),
        ({"sweeps": 0}, r"aligned\.by\.orthogonal\.sweeps: 0 is out of range"),
        ({"members": 2}, r"by: members is 2; leave it out: it is the benchmark's \(3\)$"),
    ],
    ids=str,
)
def test_wrong_options(graph_of: GraphOf, options: dict[str, Any], message: str) -> None:
    """They are refused before anything runs, in one line."""
    with pytest.raises(BenchmarkError, match=message) as error:
        graph_of(methods=[{"aligned": {"by": {"orthogonal": options}}}])
    assert len(str(error.value).splitlines()) == 1


def test_run(graph_of: GraphOf, lab: Lab) -> None:
    """In a benchmark, accuracy is the deep ensemble's, and the epochs of learned maps are counted."""
    by = [{"orthogonal": {"rotate": False}}, "orthogonal", {"orthogonal": {"learn_epochs": 2}}]
    methods = ["deep", {"aligned": {"grid": {"by": by}}}]
    graph = graph_of(methods=methods, members=3, architectures=[{"vit": SIZES}], catalogue=CATALOGUE)
    lab.run(graph, CATALOGUE)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1
    new = rows[(rows["metric"] == "new_epochs") & (rows["method"] != "deep")]
    assert list(new["value"]) == [0.0, 0.0, 2.0]
