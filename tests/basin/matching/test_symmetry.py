"""Symmetries as values, and permutations applied to weights."""

from __future__ import annotations

import pytest
import torch

from basin.matching.toy_networks import FACTORIES, SHAPE, built, grouped, perceptron
from harness_basin.matching import (
    Mismatch,
    Symmetry,
    compose,
    derive_symmetry,
    identity,
    inverse,
    permute,
    random_permutations,
)

StateDict = dict[str, torch.Tensor]


def symmetry_and_weights(name: str) -> tuple[Symmetry, StateDict]:
    """Return a network's symmetry and weights."""
    network = built(FACTORIES[name])
    return derive_symmetry(network, torch.randn(SHAPE)), network.state_dict()


def equal(x: StateDict, y: StateDict) -> bool:
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def test_convention_of_permutations() -> None:
    """Row i of the permuted weight is row p[i] of the given one, as in git-re-basin."""
    network = perceptron(192, 4, 2)
    symmetry = derive_symmetry(network, torch.randn(SHAPE))
    state = network.state_dict()
    order = torch.tensor([2, 0, 3, 1])
    permuted = permute(symmetry, (order,), state)
    assert torch.equal(permuted["1.weight"], state["1.weight"][order])
    assert torch.equal(permuted["3.weight"], state["3.weight"][:, order])


def test_inner_permutations_of_permuted_heads() -> None:
    """Inner permutations are indexed by the heads of the given weights, and move with their head."""
    symmetry, state = symmetry_and_weights("torch transformer")
    heads = torch.tensor([1, 2, 0])
    values = torch.stack([torch.randperm(4) for _ in range(3)])
    within = [symmetry.groups[g].within for g in range(4)]
    assert within == [(), (0,), (0,), ()]
    permuted = permute(symmetry, (heads, identity(symmetry)[1], values, identity(symmetry)[3]), state)
    before = state["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))
    after = permuted["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))
    for position, head in enumerate(heads.tolist()):
        assert torch.equal(after[0, position], before[0, head])
        assert torch.equal(after[2, position], before[2, head][values[head]])


@pytest.mark.parametrize("name", FACTORIES)
def test_composition_and_inverse(name: str) -> None:
    """The composition equals two permutations in sequence, and the inverse restores the weights."""
    symmetry, state = symmetry_and_weights(name)
    first = random_permutations(symmetry, 1)
    second = random_permutations(symmetry, 2)
    in_sequence = permute(symmetry, second, permute(symmetry, first, state))
    assert equal(in_sequence, permute(symmetry, compose(symmetry, first, second), state))
    assert equal(state, permute(symmetry, inverse(symmetry, first), permute(symmetry, first, state)))
    assert equal(state, permute(symmetry, identity(symmetry), state))


def test_permuted_weights_are_copies() -> None:
    """They share no memory with the given weights and include the parameters that no group permutes."""
    symmetry, state = symmetry_and_weights("convolutional")
    permuted = permute(symmetry, identity(symmetry), state)
    assert permuted.keys() == state.keys()
    assert not any(permuted[name].data_ptr() == state[name].data_ptr() for name in state)


def test_channels_last_weights() -> None:
    """The memory format of the given weights does not change the result."""
    symmetry, state = symmetry_and_weights("convolutional")
    other = dict(state)
    for name, tensor in state.items():
        if tensor.dim() == 4:
            other[name] = tensor.contiguous(memory_format=torch.channels_last)
    permutations = random_permutations(symmetry, 0)
    assert equal(permute(symmetry, permutations, state), permute(symmetry, permutations, other))


def test_random_stream_of_permutations() -> None:
    """The same key gives the same permutations, another key others; each outer unit has its own inner permutation."""
    symmetry, _ = symmetry_and_weights("transformer")
    one, again, other = (random_permutations(symmetry, stream) for stream in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(one, again))
    assert any(not torch.equal(a, b) for a, b in zip(one, other))
    inner = next(p for p, group in zip(one, symmetry.groups) if group.within)
    assert not torch.equal(inner[0], inner[1])
    for permutation in one:
        units = torch.arange(permutation.shape[-1]).expand(permutation.shape)
        assert torch.equal(permutation.sort(-1).values, units)


def test_missing_parameter() -> None:
    """The error names the parameter."""
    symmetry, state = symmetry_and_weights("perceptron")
    del state["3.weight"]
    with pytest.raises(Mismatch, match=r"^weights: parameter '3\.weight' is missing; members must be weights of one network$"):
        permute(symmetry, identity(symmetry), state)


def test_parameter_of_another_shape() -> None:
    """The error names the parameter, its shape and the network's."""
    symmetry, state = symmetry_and_weights("perceptron")
    state["1.bias"] = torch.zeros(30)
    with pytest.raises(Mismatch, match=r"^weights: parameter '1\.bias' has shape \(30,\), the network's has \(20,\)$"):
        permute(symmetry, identity(symmetry), state)


def test_description_of_a_symmetry() -> None:
    """There is one line per group, with its size, its outer group and its parameters."""
    symmetry = derive_symmetry(built(grouped), torch.randn(SHAPE))
    lines = str(symmetry).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("  0  8 units: 0.weight[0] 0.bias[0] 1.expand.weight[1]")
    assert lines[2] == "  2  4 units in each of 4 1.expand.weight[0]: 1.expand.weight[0] 1.expand.bias[0] 1.grouped.weight[1]"
