"""One vector per network: views, states, frozen parameters, buffers of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.networks.flat_network import FlatNetwork


def network() -> nn.Module:
    """A network with convolutions, BatchNorm and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 4 * 4, 2))


def test_flat_network_computes_what_the_module_computed() -> None:
    """Views and channels-last storage do not change outputs."""
    module = network().eval()
    images = torch.randn(2, 3, 6, 6)
    expected = module(images)
    flat = FlatNetwork(module)
    torch.testing.assert_close(flat.module(images), expected)
    assert sum(slot.shape.numel() for slot in flat.slots) == sum(p.numel() for p in module.parameters()) + 10


def test_tensors_are_aligned() -> None:
    """Parameters, buffers and gradients start at multiples of 64 bytes, as kernels on a GPU assume; the gaps stay 0."""
    flat = FlatNetwork(network(), gradient=True)
    flat.gradient_of(flat.module(torch.randn(4, 3, 6, 6)).square().sum())
    tensors = [*flat.module.parameters(), flat.module[1].running_mean, flat.module[1].running_var]
    assert [tensor.data_ptr() % 64 for tensor in tensors] == [0] * 8
    assert [parameter.grad.data_ptr() % 64 for parameter in flat.module.parameters()] == [0] * 6
    in_a_gap = torch.ones_like(flat.vector, dtype=torch.bool)
    for slot in flat.slots:
        slot.view(in_a_gap).fill_(False)
    assert int(in_a_gap.sum()) == len(flat.vector) - 312 - 10
    assert not flat.vector[in_a_gap].any()
    assert not flat.gradient[in_a_gap[: flat.trained_size]].any()
    assert not flat.flatten(flat.state())[in_a_gap].any()


def test_changing_the_vector_changes_the_module() -> None:
    """Parameters and floating-point buffers are views of the vector."""
    flat = FlatNetwork(network())
    flat.vector.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in flat.module.parameters())
    assert bool((flat.module[1].running_var == 0.5).all())


def test_gradients_are_views_of_one_vector() -> None:
    """After `backward` the gradient vector has every parameter's gradient."""
    flat = FlatNetwork(network(), gradient=True)
    flat.module(torch.randn(4, 3, 6, 6)).square().sum().backward()
    assert flat.gradient is not None
    named = flat.unflatten(flat.gradient)
    for name, parameter in flat.module.named_parameters():
        assert torch.equal(named[name], parameter.grad)


def test_state_of_another_network_is_loaded() -> None:
    """The network then has the other network's state, integer buffers included."""
    source, target = FlatNetwork(network()), FlatNetwork(network())
    source.module.train()
    source.module(torch.randn(4, 3, 6, 6))
    target.load(source.state())
    assert all(torch.equal(a, b) for a, b in zip(target.state().values(), source.state().values(), strict=True))
    assert int(target.module[1].num_batches_tracked) == 1
    torch.testing.assert_close(target.flatten(source.state()), source.vector)


def test_state_loads_into_a_plain_module() -> None:
    """`load_state_dict` accepts the state."""
    flat = FlatNetwork(network())
    assert not nn.Sequential(*network()).load_state_dict(flat.state()).missing_keys


def test_state_of_another_architecture_is_refused() -> None:
    """The error names a missing tensor, or one of another shape."""
    flat = FlatNetwork(network())
    state = flat.state()
    with pytest.raises(ValueError, match=r"'4.weight' has shape \(2, 3\); expected \(2, 80\)"):
        flat.load({**state, "4.weight": torch.zeros(2, 3)})
    del state["0.bias"]
    with pytest.raises(ValueError, match=r"the state has no tensor '0.bias'"):
        flat.load(state)


class Unusual(nn.Module):
    """Has every kind of tensor: trained, frozen, integer, boolean, double, constant, extra state."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.last = nn.Linear(4, 2)
        self.register_buffer("order", torch.randperm(4))
        self.register_buffer("mask", torch.rand(4) < 0.5)
        self.register_buffer("scale", torch.rand(4, dtype=torch.float64))
        self.register_buffer("average", torch.rand(4))
        self.register_buffer("constant", torch.full((4,), 2.0), persistent=False)
        self.extra = torch.rand(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.frozen(self.first(x[:, self.order]).relu()) * self.mask * self.constant + self.average + self.extra[0]
        return self.last(x * self.scale.float())

    def get_extra_state(self) -> torch.Tensor:
        return self.extra

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.extra = state.clone()


def unusual(seed: int) -> Unusual:
    torch.manual_seed(seed)
    return Unusual().eval()


def test_state_with_every_kind_of_tensor_is_loaded() -> None:
    """A network with the state of another one computes the same outputs."""
    source, target = FlatNetwork(unusual(0)), FlatNetwork(unusual(1))
    images = torch.randn(8, 4)
    assert not torch.allclose(source.module(images), target.module(images))
    target.load(source.state())
    assert torch.equal(source.module(images), target.module(images))
    plain = unusual(2)
    plain.load_state_dict(source.state())
    assert torch.equal(source.module(images), plain(images))


def test_vector_holds_trained_then_frozen_then_buffers() -> None:
    """Only float32 tensors of the state dict are in the vector; the trained part ends before the frozen one."""
    flat = FlatNetwork(unusual(0), gradient=True)
    names = [slot.name for slot in flat.slots]
    trained = ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert names == [*trained, "frozen.weight", "frozen.bias", "average"]
    assert flat.trained_size == 48 + 2  # the last bias starts at a multiple of 16 values
    assert flat.trained.shape == flat.gradient.shape == (flat.trained_size,)
    assert sorted(flat.fixed_buffers) == ["mask", "order", "scale"]


def test_gradient_without_frozen_parameters() -> None:
    """The gradient has the parts of the trained parameters only, in their order."""
    flat = FlatNetwork(unusual(0), gradient=True)
    loss = flat.module(torch.randn(8, 4)).square().sum()
    gradient = flat.unflatten(flat.gradient_of(loss))
    assert sorted(gradient) == ["first.bias", "first.weight", "last.bias", "last.weight"]
    assert all(bool(part.ne(0).any()) for part in gradient.values())


class ReplacesItsBuffer(nn.Module):
    """Has a running mean in a buffer that each update replaces by a new tensor, as many hand-written layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.linear(x - self.mean)


def test_replaced_buffer_is_stored_and_loaded() -> None:
    """The state has the new tensor, and loading makes the buffer a view of the vector again."""
    flat = FlatNetwork(ReplacesItsBuffer().train())
    flat.module(torch.ones(5, 3))
    assert flat.buffers_replaced
    assert torch.allclose(flat.state()["mean"], torch.full((3,), 0.1))
    other = FlatNetwork(ReplacesItsBuffer().train())
    other.module(torch.zeros(5, 3))
    other.load(flat.state())
    assert not other.buffers_replaced
    assert torch.allclose(other.module.mean, torch.full((3,), 0.1))


def test_only_weights_of_convolutions_are_channels_last() -> None:
    """A four-dimensional parameter of another module keeps its layout, since its forward pass may call `view`."""
    module = nn.Module()
    module.conv = nn.Conv2d(3, 4, 3)
    module.table = nn.Parameter(torch.randn(2, 3, 4, 5))
    flat = FlatNetwork(module)
    assert {slot.name: slot.channels_last for slot in flat.slots} == {"table": False, "conv.weight": True, "conv.bias": False}
    assert module.table.is_contiguous()
    assert module.conv.weight.is_contiguous(memory_format=torch.channels_last)


class LayerAndBuffer(nn.Module):
    """A linear layer and a buffer, whose tensors the tests replace."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))


def test_buffer_with_replaced_memory_is_restored() -> None:
    """`buffers_replaced` is True until the next load makes it a view of the vector again."""
    flat = FlatNetwork(LayerAndBuffer())
    flat.module.mean.data = torch.ones(2)
    state = flat.state()
    assert flat.buffers_replaced
    assert torch.equal(state["mean"], torch.ones(2))
    flat.load({**state, "mean": torch.full((2,), 3.0)})
    assert not flat.buffers_replaced
    assert torch.equal(flat.module.mean, torch.full((2,), 3.0))
    assert torch.equal(flat.vector[-2:], torch.full((2,), 3.0))


def replace_parameter(module: LayerAndBuffer) -> None:
    module.layer.weight = nn.Parameter(torch.ones(2, 2))


def replace_memory(module: LayerAndBuffer) -> None:
    module.layer.weight.data = torch.ones(2, 2)


def delete(module: LayerAndBuffer) -> None:
    del module.layer.weight


@pytest.mark.parametrize("change", [replace_parameter, replace_memory, delete])
def test_replaced_parameter_is_named(change: Callable[[LayerAndBuffer], None]) -> None:
    """`replaced_parameter` has its name, since no optimizer of the vector changes it."""
    flat = FlatNetwork(LayerAndBuffer())
    assert flat.replaced_parameter == ""
    change(flat.module)
    assert flat.replaced_parameter == "layer.weight"


def test_parameters_that_no_gradient_reaches() -> None:
    """Their gradient is 0, and `unreached` has their slots."""
    flat = FlatNetwork(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), gradient=True)
    gradient = flat.unflatten(flat.gradient_of(flat.module[1](torch.ones(1, 2)).sum()))
    assert [slot.name for slot in flat.unreached] == ["0.weight", "0.bias"]
    assert torch.equal(gradient["0.weight"], torch.zeros(2, 2))
    assert torch.equal(gradient["1.weight"], torch.ones(2, 2))


def test_parameter_that_is_frozen_during_training_is_refused() -> None:
    """The error names the parameter."""
    flat = FlatNetwork(nn.Linear(2, 2), gradient=True)
    flat.module.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"^parameter 'bias' changes its requires_grad during training; set it in build$"):
        flat.gradient_of(flat.module(torch.ones(1, 2)).sum())
