"""Multi-PCD: the alignment of all members to one another."""

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


def ensemble(name: str, members: int) -> tuple[nn.Module, Symmetry, list[StateDict]]:
    """Return a network, its symmetry and the weights of an ensemble."""
    networks = [built(NETWORKS[name], seed) for seed in range(members)]
    symmetry = derive_symmetry(networks[0], torch.randn(SHAPE))
    return networks[0], symmetry, [network.state_dict() for network in networks]


def objective(symmetry: Symmetry, states: Sequence[StateDict]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩, summed over all pairs."""
    names = {block.parameter for block in symmetry.blocks if block.counts}
    total = 0.0
    for a, b in itertools.permutations(states, 2):
        total += sum(float((a[name].double() * b[name].double()).sum()) for name in names)
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_objective_never_falls_and_functions_do_not_change(name: str) -> None:
    """The trace starts with the objective of the given members and ends with that of the permuted ones."""
    network, symmetry, states = ensemble(name, 4)
    found = match_jointly(symmetry, states, stream=0)
    permuted = [permute(symmetry, p, state) for p, state in zip(found.permutations, states)]
    assert all(after >= before for before, after in itertools.pairwise(found.trace))
    assert found.trace[0] == pytest.approx(objective(symmetry, states), rel=1e-10)
    assert found.objective == found.trace[-1] == pytest.approx(objective(symmetry, permuted), rel=1e-10)
    for before, after in zip(states, permuted):
        assert functional_difference(network, before, after, torch.randn(SHAPE)) < 1e-12


def test_first_member_is_unchanged() -> None:
    """The result is the one of all equivalent results with the identity for the first member."""
    _, symmetry, states = ensemble("transformer", 3)
    found = match_jointly(symmetry, states, stream=0)
    assert all(torch.equal(p, q) for p, q in zip(found.permutations[0], identity(symmetry)))


def test_permuted_copies_of_one_network() -> None:
    """All copies become equal."""
    _, symmetry, (state,) = ensemble("resnet20", 1)
    copies = [permute(symmetry, random_permutations(symmetry, i), state) for i in range(3)]
    found = match_jointly(symmetry, copies, stream=0)
    first, *others = (permute(symmetry, p, weights) for p, weights in zip(found.permutations, copies))
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_joint_alignment_against_alignment_to_the_first_member() -> None:
    """Joint alignment has the larger objective over all pairs."""
    _, symmetry, states = ensemble("convolutional", 5)
    aligned_to_first = [states[0]]
    for state in states[1:]:
        found = match(symmetry, states[0], state, stream=0)
        aligned_to_first.append(permute(symmetry, found.permutations, state))
    assert match_jointly(symmetry, states, stream=0).objective > objective(symmetry, aligned_to_first)


def test_two_members() -> None:
    """Matching the second member to the first once more gains nothing."""
    _, symmetry, (a, b) = ensemble("perceptron", 2)
    found = match_jointly(symmetry, [a, b], stream=0)
    again = match(symmetry, a, b, stream=1, start=found.permutations[1])
    assert found.objective == pytest.approx(2 * again.objective, rel=1e-12)
    assert again.sweeps == 1


def test_random_stream_of_joint_matching() -> None:
    """The same stream gives the same trace, another stream another trace."""
    _, symmetry, states = ensemble("convolutional", 3)
    first, second, other = (match_jointly(symmetry, states, stream=stream) for stream in (0, 0, 1))
    assert first.trace == second.trace
    assert first.trace != other.trace


def test_restarts_of_joint_matching() -> None:
    """The best of several descents is returned; the first of them is the single descent."""
    _, symmetry, states = ensemble("convolutional", 3)
    found = [match_jointly(symmetry, states, stream=0, restarts=restarts) for restarts in (1, 2, 6)]
    objectives = [matching.objective for matching in found]
    assert objectives == sorted(objectives)
    assert objectives[-1] > objectives[0]
    assert found[-1].objective == found[-1].trace[-1]
    assert all(torch.equal(p, q) for p, q in zip(found[-1].permutations[0], identity(symmetry)))


def test_start_of_joint_matching() -> None:
    """A descent that starts at the result improves nothing."""
    _, symmetry, states = ensemble("transformer", 3)
    found = match_jointly(symmetry, states, stream=0)
    again = match_jointly(symmetry, states, stream=1, start=found.permutations)
    assert again.trace == pytest.approx([found.objective] * len(again.trace), rel=1e-12)
    for before, after in zip(found.permutations, again.permutations, strict=True):
        assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("members", [0, 1])
def test_less_than_two_members(members: int) -> None:
    """Nothing is permuted, and the objective is 0."""
    _, symmetry, states = ensemble("perceptron", 1)
    found = match_jointly(symmetry, states[:members], stream=0)
    assert found.objective == 0.0
    assert len(found.permutations) == members


def test_member_of_another_network() -> None:
    """The error names the member and the parameter."""
    _, symmetry, states = ensemble("perceptron", 2)
    states[1] = states[1] | {"1.bias": torch.zeros(3)}
    with pytest.raises(Mismatch, match=r"^member 1: parameter '1\.bias' has shape \(3,\)"):
        match_jointly(symmetry, states, stream=0)
