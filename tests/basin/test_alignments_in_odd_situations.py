"""What every alignment does in the same odd situation: it gives the same facts, or fails with the same line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import odd_networks
import toys
from harness import Alignment, Architecture, DerivationContext, StateDict, TaskFailed, streams
from harness.testing import derivation_context
from harness_basin.alignments import ALIGNMENTS
from harness_basin.matching import Mismatch, UnknownOperation
from harness_vision.digits import Digits
from harness_vision.vit import ViT

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16}
CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "weights": ("weight_matching", {}),
    "weights, restarts": ("weight_matching", {"restarts": 2}),
    "joint_weights": ("joint_weight_matching", {}),
    "joint_weights, restarts": ("joint_weight_matching", {"restarts": 2}),
    "activations": ("activation_matching", {}),
    "ste": ("straight_through_matching", QUICK),
    "ste_mm": ("joint_straight_through_matching", QUICK),
    "sinkhorn": ("sinkhorn", {"steps": 3}),
    "sinkhorn, soft": ("sinkhorn", {"steps": 3, "soft": True}),
    "sinkhorn, midpoint": ("sinkhorn", {"loss": "midpoint", **QUICK}),
    "c2m3": ("cycle_consistent_matching", {"max_steps": 5}),
    "ot": ("ot", {}),
    "ot, soft": ("ot", {"regularization": 0.1}),
    "scales": ("scale_alignment", {}),
    "scales, permutations": ("scale_alignment", {"permutations": True}),
}
RESIDUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "orthogonal": ("orthogonal_matching", {}),
    "orthogonal, learned": ("orthogonal_matching", {"learn_epochs": 1}),
}
"""Alignments that a perceptron has no symmetry for."""

every_alignment = pytest.mark.parametrize("choice", [*CHOICES, *RESIDUAL])
permuting = pytest.mark.parametrize("choice", CHOICES)


def alignment_of(choice: str, members: int) -> Alignment:
    """Return an alignment of an ensemble of M members; one of a pair has 2."""
    name, options = {**CHOICES, **RESIDUAL}[choice]
    (cls,) = [cls for cls in ALIGNMENTS if cls.name == name]
    if cls.joint:
        options = {**options, "members": members}
    return cls(cls.Options(**options))


def context_of(architecture: Architecture | None = None, size: int = 48) -> DerivationContext:
    """Return a context of perceptrons, or of another architecture, on toy images."""
    return derivation_context(architecture or toys.Perceptron(), toys.Blobs(toys.Blobs.Options(size=size)), Path())


def small_vit() -> DerivationContext:
    """Return a context of a very small vision transformer, which every alignment fits."""
    options = {"patch": 4, "width": 8, "mlp": 8, "depth": 1, "heads": 2, "dropout": 0.0}
    return derivation_context(ViT(ViT.Options(**options)), Digits(Digits.Options(train_size=40, test_size=20)), Path())


def linear() -> Architecture:
    """Return an architecture without hidden units."""
    return odd_networks.architecture(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 4)))()


def states_of(context: DerivationContext, count: int) -> list[StateDict]:
    """Return networks with random weights; buffers are those of the network as it is built."""
    found = []
    for number in range(count):
        network = context.network()
        with streams.seeded(streams.key("odd", number)), torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        found.append({name: tensor.detach().clone() for name, tensor in network.state_dict().items()})
    return found


def derived(choice: str, parents: list[StateDict], context: DerivationContext) -> tuple[Any, Mapping[str, Any]]:
    """Return the results and the facts of an alignment, which gets the first two parents if it is one of a pair."""
    alignment = alignment_of(choice, len(parents))
    return alignment.derive(parents if alignment.joint else parents[:2], context)


def assert_fails(choice: str, parents: list[StateDict], context: DerivationContext, error: type[Exception], line: str) -> None:
    """Assert that an alignment fails with a line."""
    with pytest.raises(error) as raised:
        derived(choice, parents, context)
    assert str(raised.value) == line


@every_alignment
def test_facts(choice: str) -> None:
    """All alignments tell their objective, their counts, the change of the function, and whether the identity is better."""
    alignment = alignment_of(choice, 3)
    _, facts = derived(choice, states_of(context := small_vit(), 3), context)
    assert isinstance(facts["objective"], float)
    assert math.isfinite(facts["objective"])
    for name in ("assignments", "images", "gradient_steps"):
        assert isinstance(facts[name], int), name
    assert isinstance(facts["worse_than_identity"], bool)
    if alignment.joint:
        assert len(facts["function_differences"]) == 3
    else:
        assert facts["function_difference"] >= 0
    trains = alignment.epochs > 0
    assert (facts["images"] > 0) == (trains or choice == "activations")
    assert (facts["gradient_steps"] > 0) == (trains or choice.startswith("sinkhorn"))


def test_assignments_of_weight_matching() -> None:
    """The single group of a perceptron has no neighbor, so one assignment problem is all."""
    _, facts = derived("weights", states_of(context := context_of(), 2), context)
    assert facts["assignments"] == 1
    assert facts["worse_than_identity"] is False


@pytest.mark.parametrize("factor", [1.0, 0.0])
@every_alignment
def test_equal_members_and_zeros(choice: str, factor: float) -> None:
    """Members that cannot be closer, and members with constant activations, are fine, and not worse than the identity."""
    context = small_vit()
    (state,) = states_of(context, 1)
    parents = [{name: factor * tensor for name, tensor in state.items()} for _ in range(2)]
    results, facts = derived(choice, parents, context)
    assert all(bool(tensor.isfinite().all()) for result in results for tensor in result.values())
    if "soft" not in choice:
        assert facts["worse_than_identity"] is False


@every_alignment
def test_member_alone(choice: str) -> None:
    """A joint alignment returns a single member; one of a pair says that it has two."""
    context = small_vit()
    alignment = alignment_of(choice, 1)
    if alignment.joint:
        results, facts = alignment.derive(states_of(context, 1), context)
        assert len(results) == 1
        assert facts["objective"] == 0
        assert facts["worse_than_identity"] is False
        return
    line = f"{alignment.full_name}: it got 1 networks; an alignment of a pair has 2, the reference and the network to move"
    assert_fails(choice, states_of(context, 1), context, Mismatch, line)


@pytest.mark.parametrize("choice", ["joint_weights", "activations", "ste_mm", "c2m3", "orthogonal"])
def test_other_number_of_members(choice: str) -> None:
    """A joint alignment gets as many networks as its option says."""
    context = small_vit()
    alignment = alignment_of(choice, 3)
    with pytest.raises(Mismatch, match=r": it got 2 networks; option members is 3$"):
        alignment.derive(states_of(context, 2), context)


def without(state: StateDict, name: str) -> StateDict:
    """Return a state dict without a parameter."""
    return {key: tensor for key, tensor in state.items() if key != name}


OF_ONE_NETWORK = "members must be weights of one network"
OTHERS: dict[str, tuple[Callable[[StateDict], StateDict], str]] = {
    "another shape": (
        lambda state: {**state, "head.weight": torch.zeros(10, 7)},
        f"parameter 'head.weight' has shape (10, 7), the network's has (10, 8); {OF_ONE_NETWORK}",
    ),
    "a name is missing": (lambda state: without(state, "head.bias"), f"parameter 'head.bias' is missing; {OF_ONE_NETWORK}"),
    "a name too many": (
        lambda state: {**state, "more": torch.zeros(3)},
        f"parameter 'more' is not one of the network's; {OF_ONE_NETWORK}",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("place", [0, 1])
@every_alignment
def test_members_of_another_network(choice: str, place: int, other: str) -> None:
    """All alignments name the parent and the parameter, also one that they do not move."""
    change, message = OTHERS[other]
    parents = states_of(context := small_vit(), 2)
    parents[place] = change(parents[place])
    assert_fails(choice, parents, context, Mismatch, f"parent {place} of the alignment: {message}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@every_alignment
def test_values_that_are_not_finite(choice: str, value: float) -> None:
    """All alignments name the parent and the parameter, also one that they do not move."""
    parents = states_of(context := small_vit(), 2)
    parents[1]["head.bias"][0] = value
    line = "parent 1 of the alignment: 'head.bias' has values that are not finite; has this member diverged?"
    assert_fails(choice, parents, context, TaskFailed, line)


@permuting
def test_values_of_a_network_without_hidden_units(choice: str) -> None:
    """A diverged member is found, although there is nothing to align."""
    parents = states_of(context := context_of(linear()), 2)
    parents[0]["1.weight"][0] = math.nan
    line = "parent 0 of the alignment: '1.weight' has values that are not finite; has this member diverged?"
    assert_fails(choice, parents, context, TaskFailed, line)


class Masked(nn.Module):
    """A network with a mask of infinite values in its state dict."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 4)
        self.register_buffer("mask", torch.tensor([-math.inf, 0.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)).relu()
        return self.last(hidden) + self.mask.exp()


@permuting
def test_mask_of_infinite_values(choice: str) -> None:
    """Values that are infinite in the network as it is built are no sign of divergence."""
    context = context_of(odd_networks.architecture(Masked)())
    results, _ = derived(choice, states_of(context, 2), context)
    for result in results:
        assert torch.equal(result["mask"], torch.tensor([-math.inf, 0.0, 0.0, 0.0]))


class Fourier(nn.Module):
    """A network with an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.fft.fft(self.first(x.flatten(1))).real)


@every_alignment
def test_operation_without_a_rule(choice: str) -> None:
    """All alignments name the operation."""
    context = context_of(odd_networks.architecture(Fourier)())
    with pytest.raises(UnknownOperation, match=r"^the network: the effect of operation 'aten\._fft_r2c\.default' on permut"):
        derived(choice, states_of(context, 2), context)


@permuting
def test_network_without_hidden_units(choice: str) -> None:
    """Members stay as they are, with an objective of 0 and no step."""
    parents = states_of(context := context_of(linear()), 2)
    results, facts = derived(choice, parents, context)
    for name, tensor in results[-1].items():
        assert torch.equal(tensor, parents[1][name])
    assert facts["objective"] == 0
    assert facts["assignments"] == facts["gradient_steps"] == 0
    assert facts["worse_than_identity"] is False


@permuting
def test_members_in_double_precision(choice: str) -> None:
    """Weights of another type than the network's are aligned, and keep their type."""
    context = context_of()
    parents = []
    for state in states_of(context, 2):
        parents.append({name: tensor.double() for name, tensor in state.items()})
    results, _ = derived(choice, parents, context)
    assert {tensor.dtype for tensor in results[-1].values()} == {torch.float64}


@pytest.mark.parametrize(("size", "batch_size"), [(1, 16), (3, 2)])
@pytest.mark.parametrize("choice", ["ste", "ste_mm", "sinkhorn, midpoint"])
def test_batch_of_one_image(choice: str, size: int, batch_size: int) -> None:
    """With BatchNorm, a batch of a single image is refused; without, it is not."""
    normalized = context_of(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)), size)
    alignment = alignment_of(choice, 2)
    alignment = type(alignment)(alignment.options.replace(batch_size=batch_size))
    name = choice.split(",")[0]
    line = (
        f"{name}: a batch of a single image has no statistics for BatchNorm; batch_size is {batch_size}, and the training set "
        f"has {size}: at least 2 images per batch"
    )
    with pytest.raises(TaskFailed) as raised:
        alignment.derive(states_of(normalized, 2), normalized)
    assert str(raised.value) == line
    plain = context_of(size=size)
    _, facts = alignment.derive(states_of(plain, 2), plain)
    assert facts["gradient_steps"] == (1 if size == 1 else 2)


def test_soft_maps_that_are_worse_than_the_identity() -> None:
    """Soft maps of equal members are farther from the reference than the identity, and the facts say so."""
    (state,) = states_of(context := context_of(), 1)
    _, facts = derived("sinkhorn, soft", [state, state], context)
    assert facts["soft_loss"] > facts["identity_loss"] == 0
    assert facts["worse_than_identity"] is True
