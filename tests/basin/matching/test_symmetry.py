"""Symmetries as values, and permutations of weights."""

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


def of(name: str) -> tuple[Symmetry, StateDict]:
    """Return a network's symmetry and weights."""
    network = built(FACTORIES[name])
    return derive_symmetry(network, torch.randn(SHAPE)), network.state_dict()


def equal(x: StateDict, y: StateDict) -> bool:
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def test_place_i_gets_unit_p_i() -> None:
    """git-re-basin's convention: row i of the permuted weight is row p[i] of the given one."""
    network = perceptron(192, 4, 2)
    symmetry, state = derive_symmetry(network, torch.randn(SHAPE)), network.state_dict()
    order = torch.tensor([2, 0, 3, 1])
    permuted = permute(symmetry, (order,), state)
    assert torch.equal(permuted["1.weight"], state["1.weight"][order])
    assert torch.equal(permuted["3.weight"], state["3.weight"][:, order])


def test_dimensions_move_with_their_head() -> None:
    """Inner permutations are numbered by the heads of the given weights: those of head h go where it goes."""
    symmetry, state = of("torch transformer")
    heads = torch.tensor([1, 2, 0])
    values = torch.stack([torch.randperm(4) for _ in range(3)])
    within = [symmetry.groups[g].within for g in range(4)]
    assert within == [(), (0,), (0,), ()]
    permuted = permute(symmetry, (heads, identity(symmetry)[1], values, identity(symmetry)[3]), state)
    before = state["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))
    after = permuted["layer.self_attn.in_proj_weight"].unflatten(0, (3, 3, 4))
    for place, head in enumerate(heads.tolist()):
        assert torch.equal(after[0, place], before[0, head])
        assert torch.equal(after[2, place], before[2, head][values[head]])


@pytest.mark.parametrize("name", FACTORIES)
def test_composition_and_inverse(name: str) -> None:
    """Two permutations in a row are their composition, and an inverse brings everything back."""
    symmetry, state = of(name)
    first, second = random_permutations(symmetry, 1), random_permutations(symmetry, 2)
    in_a_row = permute(symmetry, second, permute(symmetry, first, state))
    assert equal(in_a_row, permute(symmetry, compose(symmetry, first, second), state))
    assert equal(state, permute(symmetry, inverse(symmetry, first), permute(symmetry, first, state)))
    assert equal(state, permute(symmetry, identity(symmetry), state))


def test_permuted_weights_are_new() -> None:
    """Nothing is shared with the given weights, and what no group moves is there, too."""
    symmetry, state = of("convolutional")
    permuted = permute(symmetry, identity(symmetry), state)
    assert permuted.keys() == state.keys()
    assert not any(permuted[name].data_ptr() == state[name].data_ptr() for name in state)


def test_channels_last_weights() -> None:
    """The memory format of the given weights makes no difference."""
    symmetry, state = of("convolutional")
    other = {name: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for name, t in state.items()}
    permutations = random_permutations(symmetry, 0)
    assert equal(permute(symmetry, permutations, state), permute(symmetry, permutations, other))


def test_random_permutations_follow_from_the_stream() -> None:
    """The same key draws the same, another key something else, every copy of an inner group its own."""
    symmetry, _ = of("transformer")
    one, again, other = (random_permutations(symmetry, stream) for stream in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(one, again))
    assert any(not torch.equal(a, b) for a, b in zip(one, other))
    (inner,) = [p for p, group in zip(one, symmetry.groups) if group.within][:1]
    assert not torch.equal(inner[0], inner[1])
    assert all(torch.equal(p.sort(-1).values, torch.arange(p.shape[-1]).expand(p.shape)) for p in one)


def test_missing_parameter() -> None:
    """Weights of another network are refused by name."""
    symmetry, state = of("perceptron")
    del state["3.weight"]
    with pytest.raises(Mismatch, match=r"^weights: parameter '3\.weight' is missing; members must be weights of one network$"):
        permute(symmetry, identity(symmetry), state)


def test_other_shape() -> None:
    """So are weights of a wider one."""
    symmetry, state = of("perceptron")
    state["1.bias"] = torch.zeros(30)
    with pytest.raises(Mismatch, match=r"^weights: parameter '1\.bias' has shape \(30,\), the network's has \(20,\)$"):
        permute(symmetry, identity(symmetry), state)


def test_described() -> None:
    """A line a group: how many units, within what, in which parameters."""
    symmetry = derive_symmetry(built(grouped), torch.randn(SHAPE))
    lines = str(symmetry).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("  0  8 units: 0.weight[0] 0.bias[0] 1.expand.weight[1]")
    assert lines[2] == "  2  4 units in each of 4 1.expand.weight[0]: 1.expand.weight[0] 1.expand.bias[0] 1.grouped.weight[1]"
