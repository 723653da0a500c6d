"""Multi-PCD: all members towards one another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from basin.matching.toy_networks import FACTORIES, SHAPE, built
from harness_basin.matching import (
    Mismatch,
    Symmetry,
    derive_symmetry,
    functional_difference,
    identity,
    match,
    match_jointly,
    permute,
    random_permutations,
)
from harness_vision.resnet20_network import ResNet20Network

StateDict = dict[str, torch.Tensor]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: FACTORIES[name] for name in ("perceptron", "convolutional", "grouped", "transformer")},
    "resnet20": lambda: ResNet20Network(8, (3, 8, 8), 10),
}


def of(name: str, members: int) -> tuple[nn.Module, Symmetry, list[StateDict]]:
    """Return a network, its symmetry and the weights of an ensemble."""
    networks = [built(NETWORKS[name], seed) for seed in range(members)]
    symmetry = derive_symmetry(networks[0], torch.randn(SHAPE))
    return networks[0], symmetry, [network.state_dict() for network in networks]


def objective(symmetry: Symmetry, states: Sequence[StateDict]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩, summed as it is written."""
    names = {block.parameter for block in symmetry.blocks if block.counts}
    pairs = itertools.permutations(states, 2)
    return sum(float((a[name].double() * b[name].double()).sum()) for a, b in pairs for name in names)


@pytest.mark.parametrize("name", NETWORKS)
def test_objective_never_falls_and_functions_stay(name: str) -> None:
    """The trace begins and ends with the objective of the members as given and as permuted."""
    network, symmetry, states = of(name, 4)
    found = match_jointly(symmetry, states, stream=0)
    permuted = [permute(symmetry, p, state) for p, state in zip(found.permutations, states)]
    assert all(after >= before for before, after in itertools.pairwise(found.trace))
    assert found.trace[0] == pytest.approx(objective(symmetry, states), rel=1e-10)
    assert found.objective == found.trace[-1] == pytest.approx(objective(symmetry, permuted), rel=1e-10)
    for before, after in zip(states, permuted):
        assert functional_difference(network, before, after, torch.randn(SHAPE)) < 1e-12


def test_first_member_stays() -> None:
    """Of the equivalent results, the one that leaves the first member as it is."""
    _, symmetry, states = of("transformer", 3)
    found = match_jointly(symmetry, states, stream=0)
    assert all(torch.equal(p, q) for p, q in zip(found.permutations[0], identity(symmetry)))


def test_permuted_copies_are_brought_together() -> None:
    """An ensemble of one network, permuted at random, becomes equal."""
    _, symmetry, (state,) = of("resnet20", 1)
    copies = [permute(symmetry, random_permutations(symmetry, i), state) for i in range(3)]
    found = match_jointly(symmetry, copies, stream=0)
    first, *others = (permute(symmetry, p, weights) for p, weights in zip(found.permutations, copies))
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_better_jointly_than_towards_the_first() -> None:
    """Matching everybody to the first member alone is worse for the pairs without it."""
    _, symmetry, states = of("convolutional", 5)
    towards_first = [
        states[0],
        *(permute(symmetry, match(symmetry, states[0], s, stream=0).permutations, s) for s in states[1:]),
    ]
    assert match_jointly(symmetry, states, stream=0).objective > objective(symmetry, towards_first)


def test_two_members_are_a_pair() -> None:
    """Nothing is left to gain by matching the second to the first once more."""
    _, symmetry, (a, b) = of("perceptron", 2)
    found = match_jointly(symmetry, [a, b], stream=0)
    again = match(symmetry, a, b, stream=1, start=found.permutations[1])
    assert found.objective == pytest.approx(2 * again.objective, rel=1e-12)
    assert again.sweeps == 1


def test_follows_from_the_stream() -> None:
    """Twice the same; another stream goes another way."""
    _, symmetry, states = of("convolutional", 3)
    first, second, other = (match_jointly(symmetry, states, stream=stream) for stream in (0, 0, 1))
    assert first.trace == second.trace
    assert first.trace != other.trace


@pytest.mark.parametrize("members", [0, 1])
def test_nobody_to_match(members: int) -> None:
    """A single member stays, and no member is no error."""
    _, symmetry, states = of("perceptron", 1)
    found = match_jointly(symmetry, states[:members], stream=0)
    assert found.objective == 0.0
    assert len(found.permutations) == members


def test_member_of_another_network() -> None:
    """The error says which member."""
    _, symmetry, states = of("perceptron", 2)
    states[1] = states[1] | {"1.bias": torch.zeros(3)}
    with pytest.raises(Mismatch, match=r"^member 1: parameter '1\.bias' has shape \(3,\)"):
        match_jointly(symmetry, states, stream=0)
