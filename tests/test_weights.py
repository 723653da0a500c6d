"""The flat layout: views, states, BatchNorm statistics."""

from __future__ import annotations

import pytest
import torch
from harness.weights import FlatNetwork, has_batchnorm, recompute_batchnorm
from torch import nn


def network() -> nn.Module:
    """A network with convolutions, BatchNorm and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 4, 2))


def test_flat_network_computes_what_the_module_did() -> None:
    """Views and channels-last storage change no output."""
    module = network().eval()
    images = torch.randn(2, 3, 6, 6)
    expected = module(images)
    flat = FlatNetwork(module)
    torch.testing.assert_close(flat.module(images), expected)
    assert flat.vector.numel() == sum(p.numel() for p in module.parameters()) + 10


def test_changing_the_vector_changes_the_module() -> None:
    """Parameters and floating-point buffers are views of the vector."""
    flat = FlatNetwork(network())
    flat.vector.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in flat.module.parameters())
    assert bool((flat.module[1].running_var == 0.5).all())


def test_gradients_are_views_of_one_vector() -> None:
    """After backward the gradient vector holds every parameter's gradient."""
    flat = FlatNetwork(network(), gradient=True)
    flat.module(torch.randn(4, 3, 6, 6)).square().sum().backward()
    assert flat.gradient is not None
    named = flat.unflatten(flat.gradient)
    for name, parameter in flat.module.named_parameters():
        assert torch.equal(named[name], parameter.grad)


def test_state_goes_round() -> None:
    """A state loaded from another network gives that network's state, integer buffers included."""
    source, target = FlatNetwork(network()), FlatNetwork(network())
    source.module.train()
    source.module(torch.randn(4, 3, 6, 6))
    target.load(source.state())
    assert all(torch.equal(a, b) for a, b in zip(target.state().values(), source.state().values(), strict=True))
    assert int(target.module[1].num_batches_tracked) == 1
    torch.testing.assert_close(target.flatten(source.state()), source.vector)


def test_state_loads_into_a_plain_module() -> None:
    """What the store keeps is what `load_state_dict` takes."""
    flat = FlatNetwork(network())
    assert not nn.Sequential(*network()).load_state_dict(flat.state()).missing_keys


def test_foreign_states_are_refused() -> None:
    """A missing tensor and a wrong shape are named."""
    flat = FlatNetwork(network())
    state = flat.state()
    with pytest.raises(ValueError, match=r"'4.weight' has shape \(2, 3\); \(2, 80\) is wanted"):
        flat.load({**state, "4.weight": torch.zeros(2, 3)})
    del state["0.bias"]
    with pytest.raises(ValueError, match=r"the state has no tensor '0.bias'"):
        flat.load(state)


def test_recomputed_statistics_are_the_average_over_batches() -> None:
    """Running mean and variance equal the plain averages of batch statistics, in float64 by hand."""
    module = nn.Sequential(nn.BatchNorm2d(3))
    batches = [torch.randn(8, 3, 5, 5) * k for k in (1, 2, 3)]
    module[0].running_mean.fill_(99.0)
    recompute_batchnorm(module, batches)
    means = torch.stack([b.double().mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.double().var((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(module[0].running_mean.double(), means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module[0].running_var.double(), variances, rtol=1e-5, atol=1e-6)
    assert module[0].momentum == 0.1
    assert not module[0].training


def test_batchnorm_is_recognised() -> None:
    """Only networks with running statistics need them recomputed."""
    assert has_batchnorm(network())
    assert not has_batchnorm(nn.Linear(2, 2))
    assert not has_batchnorm(nn.BatchNorm2d(2, track_running_stats=False))
