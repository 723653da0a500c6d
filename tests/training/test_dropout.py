"""Named dropout: its probabilities, its masks, and the layers that it replaces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import streams
from harness.training.dropout import NamedDropout, Noise, name_dropout

KEY = streams.key("test", "dropout")


def layer(p: float, key: int | torch.Tensor = KEY) -> NamedDropout:
    """Return a layer at the start of a step."""
    noise = Noise()
    noise.begin(key)
    return NamedDropout(p, noise)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_values_are_dropped_with_their_probability(p: float) -> None:
    """A fraction p is 0, the rest is scaled by 1 / (1 - p), to four standard errors and the rounding of p."""
    out = layer(p)(torch.ones(400, 1000))
    assert float((out == 0).double().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / 400_000) ** 0.5)
    assert out[out != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-3)
    assert float(out.double().mean()) == pytest.approx(1, abs=4 * (p / (1 - p) / 400_000) ** 0.5)


def test_drops_are_independent() -> None:
    """Neighbors in one random word, and values of different words, are dropped independently."""
    kept = layer(0.5)(torch.ones(400_000)).bool().double()
    for distance in (1, 2, 3, 4, 1000):
        correlation = torch.corrcoef(torch.stack([kept, kept.roll(distance)]))[0, 1]
        assert abs(float(correlation)) < 0.01


def test_gradient_has_the_mask_of_the_values() -> None:
    """The gradient is 0 where a value was dropped and 1 / (1 - p) elsewhere."""
    x = torch.ones(1000, requires_grad=True)
    out = layer(0.25)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_mask_is_a_function_of_key_and_position() -> None:
    """The same key, as a number or a tensor, gives the same mask in every memory format; another key another mask."""
    x = torch.ones(2, 3, 4, 5)
    first = layer(0.5)(x)
    assert torch.equal(layer(0.5)(x), first)
    assert torch.equal(layer(0.5, torch.tensor(streams.signed(KEY)))(x), first)
    assert torch.equal(layer(0.5)(x.contiguous(memory_format=torch.channels_last)), first)
    assert not torch.equal(layer(0.5, KEY + 1)(x), first)


def test_layer_that_is_called_twice_in_a_step() -> None:
    """Every call draws new numbers; the next step starts from its key."""
    dropout = layer(0.5)
    x = torch.ones(1001)
    first = dropout(x)
    assert not torch.equal(dropout(x), first)
    dropout.noise.begin(KEY)
    assert torch.equal(dropout(x), first)


def test_evaluation_and_probabilities_zero_and_one() -> None:
    """In evaluation, and with p = 0, nothing is dropped; with p = 1 everything is."""
    x = torch.randn(7)
    assert torch.equal(layer(0.5).eval()(x), x)
    assert torch.equal(layer(0.0)(x), x)
    assert torch.equal(layer(1.0)(x), torch.zeros(7))


def test_dropout_of_a_network_is_replaced() -> None:
    """Every `nn.Dropout` draws from one noise and keeps its probability and mode; the state dict is unchanged."""
    inner = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.3))
    network = nn.Sequential(inner, nn.ReLU(), nn.Dropout(0.1).eval(), nn.Dropout1d(0.2))
    before = list(network.state_dict())
    noise = name_dropout(network)
    assert isinstance(inner[1], NamedDropout)
    assert (inner[1].p, inner[1].noise, inner[1].training) == (0.3, noise, True)
    assert isinstance(network[2], NamedDropout)
    assert not network[2].training
    assert type(network[3]) is nn.Dropout1d
    assert list(network.state_dict()) == before
    assert name_dropout(network) is not noise
    assert inner[1].noise is not noise


def test_global_generator_is_not_used() -> None:
    """Its state does not change, and the mask does not depend on it."""
    before = torch.get_rng_state()
    first = layer(0.5)(torch.ones(100))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(layer(0.5)(torch.ones(100)), first)
