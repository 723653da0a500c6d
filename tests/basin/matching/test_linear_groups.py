"""Groups of scales and matrices as values, and their application to weights."""

from __future__ import annotations

import pytest
import torch

from basin.matching.toy_networks import Transformer, built, perceptron
from harness_basin.matching import (
    Block,
    Factor,
    LinearGroup,
    Mismatch,
    Place,
    act,
    compose_elements,
    functional_difference,
    identity_elements,
    inverse_elements,
    random_elements,
)
from harness_basin.matching.linear.linear_groups import Kind

UNITS = Block("1.weight", 0, (Factor(0, 4, 192, 0), Factor(1, 192, 1, None)))
BIAS = Block("1.bias", 0, (Factor(0, 4, 1, 0),))
READER = Block("3.weight", 0, (Factor(0, 2, 4, None), Factor(1, 4, 1, 0)))


def hidden_units(kind: Kind) -> LinearGroup:
    """Return a group that acts on the hidden units of `perceptron(192, 4, 2)`."""
    places = (Place(UNITS, 0, "direct"), Place(BIAS, 0, "direct"), Place(READER, 1, "inverse_transposed"))
    return LinearGroup(kind, "1.weight[0]", 4, places, fixes_ones=kind == "orthogonal")


def per_head(kind: Kind, width: int = 24, heads: int = 3) -> LinearGroup:
    """Return the group of the value dimensions of every head in the first block of `Transformer`."""
    size = width // heads
    values = Block(
        "attention.0.qkv.weight",
        2 * width * width,
        (Factor(0, heads, size * width, 1), Factor(0, size, width, 2), Factor(1, width, 1, 0)),
    )
    biases = Block("attention.0.qkv.bias", 2 * width, (Factor(0, heads, size, 1), Factor(0, size, 1, 2)))
    outputs = Block("attention.0.out.weight", 0, (Factor(0, width, width, 0), Factor(1, heads, size, 1), Factor(1, size, 1, 2)))
    places = (Place(values, 1, "direct"), Place(biases, 1, "direct"), Place(outputs, 2, "inverse_transposed"))
    return LinearGroup(kind, "values", size, places, index=2, within=(1,), outer_sizes=(heads,))


def test_scales_multiply_rows_and_divide_columns() -> None:
    """Row c of a direct place is multiplied by a_c; column c of an inverse place is divided by it."""
    network = perceptron(192, 4, 2).double()
    state = network.state_dict()
    scales = torch.tensor([1.0, 2.0, 4.0, 0.5], dtype=torch.float64)
    moved = act([hidden_units("scale")], (scales,), state)
    assert torch.equal(moved["1.weight"], state["1.weight"] * scales[:, None])
    assert torch.equal(moved["1.bias"], state["1.bias"] * scales)
    assert torch.equal(moved["3.weight"], state["3.weight"] / scales)
    assert torch.equal(moved["3.bias"], state["3.bias"])


def test_matrices_act_from_the_left_and_by_the_inverse_transposed() -> None:
    """A direct place becomes A W along its axis, an inverse transposed one A⁻ᵀ W."""
    state = perceptron(192, 4, 2).double().state_dict()
    group = hidden_units("invertible")
    (matrix,) = random_elements([group], 3)
    moved = act([group], (matrix,), state)
    assert torch.allclose(moved["1.weight"], matrix @ state["1.weight"], rtol=1e-12)
    assert torch.allclose(moved["3.weight"] @ moved["1.weight"], state["3.weight"] @ state["1.weight"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["scale", "invertible", "orthogonal"])
def test_one_element_per_head(kind: Kind) -> None:
    """A group within the heads has an element per head, which keeps the function of float64 weights; weights change."""
    network = built(Transformer).double()
    state = network.state_dict()
    group = per_head(kind)
    elements = random_elements([group], 5)
    assert elements[0].shape[0] == 3
    moved = act([group], elements, state)
    assert not torch.allclose(moved["attention.0.out.weight"], state["attention.0.out.weight"])
    assert functional_difference(network, state, moved, torch.randn(2, 3, 8, 8)) <= 1e-9


@pytest.mark.parametrize("kind", ["scale", "invertible", "orthogonal"])
def test_composition_and_inverse(kind: Kind) -> None:
    """Acting twice is acting once with the composition; the inverse undoes; the identity changes nothing."""
    group = per_head(kind)
    state = built(Transformer).double().state_dict()
    first = random_elements([group], 1)
    second = random_elements([group], 2)
    twice = act([group], second, act([group], first, state))
    once = act([group], compose_elements([group], first, second), state)
    back = act([group], inverse_elements([group], first), act([group], first, state))
    same = act([group], identity_elements([group]), state)
    for name, tensor in state.items():
        assert torch.allclose(twice[name], once[name], rtol=1e-9, atol=1e-12)
        assert torch.allclose(back[name], tensor, rtol=1e-9, atol=1e-12)
        assert torch.equal(same[name], tensor)


def test_random_orthogonal_matrices_that_keep_the_ones() -> None:
    """With `fixes_ones`, a random rotation keeps the vector of ones, is orthogonal, and is not the identity."""
    (rotation,) = random_elements([hidden_units("orthogonal")], 0)
    assert torch.allclose(rotation.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(rotation @ rotation.T, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert (rotation - torch.eye(4)).norm() > 0.1


def test_type_of_the_weights_is_kept() -> None:
    """Weights are moved in float64 and stored in their own type; the given ones do not change."""
    state = perceptron(192, 4, 2).state_dict()
    before = state["1.weight"].clone()
    moved = act([hidden_units("scale")], random_elements([hidden_units("scale")], 0), state)
    assert moved["1.weight"].dtype == torch.float32
    assert torch.equal(state["1.weight"], before)


def test_weights_and_elements_of_another_network() -> None:
    """A missing parameter, and an element of a wrong shape, are named."""
    group = hidden_units("scale")
    with pytest.raises(Mismatch, match=r"weights: parameter '1.weight' is missing"):
        act([group], identity_elements([group]), {})
    with pytest.raises(Mismatch, match=r"1.weight\[0\]: element has shape \(5,\), the group's have \(4,\)"):
        act([group], (torch.ones(5),), perceptron(192, 4, 2).state_dict())
