"""Derivation of scales and matrices: known networks, networks without such groups, and the check of every group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basin.matching.toy_networks import FACTORIES, SHAPE, Transformer, built, grouped, perceptron
from harness_basin.matching import (
    LinearGroup,
    LinearSymmetry,
    act,
    derive_linear_groups,
    derive_symmetry,
    functional_difference,
    random_elements,
)
from harness_basin.matching.linear.certification import certified, normal_form
from harness_basin.matching.verification import random_weights
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork


def derived(network: nn.Module, shape: tuple[int, ...] = SHAPE) -> LinearSymmetry:
    """Return the groups of a network."""
    example = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape)
    return derive_linear_groups(network, example, derive_symmetry(network, example))


def places(group: LinearGroup) -> set[str]:
    """Return the places of a group as text."""
    return set(map(str, group.places))


class BatchNormBlock(nn.Module):
    """Two convolutions with BatchNorm and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


def batch_norm_network() -> nn.Sequential:
    """Return a small residual network with BatchNorm."""
    stem = (nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    return nn.Sequential(*stem, BatchNormBlock(6), BatchNormBlock(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))


def with_activation(activation: nn.Module) -> Callable[[], nn.Module]:
    """Return a perceptron with one hidden layer."""
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), activation, nn.Linear(16, 5))


class SquaredReLU(nn.Module):
    """The square of ReLU: a factor a becomes a²."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


@pytest.mark.parametrize("name", FACTORIES)
def test_elements_do_not_change_the_function(name: str) -> None:
    """Random elements of each group keep the outputs to 1e-9 in float64, and scales to 1e-5 as stored in float32."""
    network = built(FACTORIES[name])
    groups = [group for group in derived(network).groups if not group.needs_normal_form]
    images = torch.randn(SHAPE)
    state = network.state_dict()
    double = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    for group in groups:
        for weights in (double, random_weights(network, 9)):
            moved = act([group], random_elements([group], 7), weights)
            assert functional_difference(network, weights, moved, images) <= 1e-9
    scales = [group for group in groups if group.kind == "scale"]
    stored = act(scales, random_elements(scales, 3), state)
    assert functional_difference(network, state, stored, images) <= 1e-5


@pytest.mark.parametrize("name", FACTORIES)
def test_no_group_of_the_toys_is_refused(name: str) -> None:
    """What is found to first order passes the check."""
    assert not derived(built(FACTORIES[name])).refused


def test_resnet20_has_twelve_scales() -> None:
    """A scale per permutation group: LayerNorm's scale and shift write the units, convolutions read them; no matrices."""
    network = ResNet20Network(8, (3, 8, 8), 10)
    example = torch.randn(SHAPE)
    symmetry = derive_symmetry(network, example)
    found = derive_linear_groups(network, example, symmetry)
    assert len(found.groups) == 12
    assert [group.index for group in found.groups] == list(range(12))
    assert {group.kind for group in found.groups} == {"scale"}
    (last_stream,) = [group for group in found.groups if "dense.weight[1]⁻¹" in places(group)]
    writers = ["2.0.norm2", "2.0.shortcut_norm", "2.1.norm2", "2.2.norm2"]
    written = {f"groups.{name}.{kind}[0]" for name in writers for kind in ("weight", "bias")}
    read = {"groups.2.1.conv1.weight[1]⁻¹", "groups.2.2.conv1.weight[1]⁻¹", "dense.weight[1]⁻¹"}
    assert places(last_stream) == written | read


def test_batch_norm_after_a_linear_map_of_one_pixel() -> None:
    """Statistics of a batch cancel the shift of the layer before; at other weights this would be no symmetry."""
    network = built(
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 8, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 1, groups=8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5)),
        )
    )
    found = derived(network)
    assert list(map(places, found.groups)) == [
        {"1.weight[0]", "1.bias[0]", "2.weight[0]⁻¹"},
        {"3.weight[0]", "3.bias[0]", "5.weight[0]⁻¹"},
        {"6.weight[0]", "6.bias[0]", "8.weight[1]⁻¹"},
    ]


def test_deep_network_with_normalization() -> None:
    """Sixty layers have a scale per permutation group, no fewer and no more: effects do not vanish in rounding errors."""
    blocks = [BatchNormBlock(12) for _ in range(30)]
    stem = (nn.Conv2d(3, 12, 3, 2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
    network = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 20))
    example = torch.randn(SHAPE)
    symmetry = derive_symmetry(network, example)
    found = derive_linear_groups(network, example, symmetry)
    assert len(symmetry.groups) == 31
    assert [group.index for group in found.groups] == list(range(31))
    assert not found.refused


def test_negative_factors_are_no_symmetry_of_resnet20() -> None:
    """ReLU admits positive factors only: one sign changes the outputs."""
    network = built(lambda: ResNet20Network(8, (3, 8, 8), 10))
    group = derived(network).groups[0]
    scales = torch.ones(group.size, dtype=torch.float64)
    scales[0] = -1
    moved = act([group], (scales,), network.state_dict())
    assert functional_difference(network, network.state_dict(), moved, torch.randn(SHAPE)) > 1e-3


def test_batch_norm_is_scaled_by_its_parameters() -> None:
    """BatchNorm's scale and shift are multiplied; running statistics are not moved."""
    network = built(batch_norm_network)
    found = derived(network)
    assert [group.kind for group in found.groups] == ["scale"] * 3
    inner = {"3.norm1.weight[0]", "3.norm1.bias[0]", "3.conv2.weight[1]⁻¹"}
    stream = {f"{norm}.{kind}[0]" for norm in ("1", "3.norm2", "4.norm2") for kind in ("weight", "bias")}
    stream |= {"3.conv1.weight[1]⁻¹", "4.conv1.weight[1]⁻¹", "7.weight[1]⁻¹"}
    assert places(found.groups[0]) == stream
    assert places(found.groups[1]) == inner
    state = network.state_dict()
    moved = act(found.groups, random_elements(found.groups, 0), state)
    assert torch.equal(moved["3.norm1.running_var"], state["3.norm1.running_var"])


def test_perceptron_has_a_scale_per_hidden_layer() -> None:
    """ReLU without normalization: weights and biases of a unit are multiplied, its outgoing weights divided."""
    found = derived(perceptron(192, 20, 16, 5))
    assert list(map(places, found.groups)) == [
        {"1.weight[0]", "1.bias[0]", "3.weight[1]⁻¹"},
        {"3.weight[0]", "3.bias[0]", "5.weight[1]⁻¹"},
    ]


@pytest.mark.parametrize(
    ("activation", "count"),
    [(nn.ReLU(), 1), (nn.LeakyReLU(), 1), (nn.GELU(), 0), (nn.SiLU(), 0), (nn.Tanh(), 0), (nn.Softplus(), 0), (nn.ELU(), 0)],
    ids=str,
)
def test_activations(activation: nn.Module, count: int) -> None:
    """Positively homogeneous functions admit scales, others do not; none of them admits matrices."""
    found = derived(built(with_activation(activation)))
    assert [group.kind for group in found.groups] == ["scale"] * count
    assert not found.refused


def test_functions_that_are_homogeneous_in_part() -> None:
    """ReLU6 is homogeneous below 6 only: a scale that no gradient excludes is refused by the check."""
    network = with_activation(nn.ReLU6())()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()  # random weights are the network's with noise: no unit reaches 6
    found = derived(network)
    assert not found.groups
    (refusal,) = found.refused
    assert str(refusal).startswith("refused: scale 1.weight[0]: random elements change the outputs by ")


def test_power_other_than_one() -> None:
    """A squared ReLU squares the factor: the group exists, but cannot be expressed."""
    network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), SquaredReLU(), nn.Linear(16, 5)))
    found = derived(network)
    assert not found.groups
    assert [refusal.reason for refusal in found.refused] == ["a factor would enter with a power other than 1 or -1"]


def test_linear_hidden_layer_admits_all_matrices() -> None:
    """Without a nonlinearity between two layers, any invertible matrix may be inserted."""
    found = derived(built(with_activation(nn.Identity())))
    assert [group.kind for group in found.groups] == ["scale", "invertible"]
    assert places(found.groups[1]) == {"1.weight[0]", "1.bias[0]", "3.weight[1]⁻ᵀ"}


def vit(width: int = 32, depth: int = 2, heads: int = 4) -> nn.Module:
    """Return a small ViT of the kind of the paper's."""
    return ViTNetwork((3, 8, 8), 10, patch=4, width=width, mlp=48, depth=depth, heads=heads, dropout=0.0, attention_dropout=0.0)


def test_vit_has_groups_of_every_kind() -> None:
    """Scales per LayerNorm, query-key and value-output dimensions; invertible maps per head; none of the GELU units."""
    found = derived(vit())
    scales = found.of_kind("scale")
    assert len(scales) == 2 * 2 + 1 + 2 * 2
    assert found.count("scale") == 2 * 2 + 1 + 2 * 2 * 4
    first = {"blocks.0.norm2.weight[0]", "blocks.0.norm2.bias[0]", "blocks.0.linear1.weight[1]⁻¹"}
    assert first in list(map(places, scales))
    assert not [group for group in found.groups if "blocks.0.linear2.weight[1]⁻¹" in places(group)]
    invertible = found.of_kind("invertible")
    assert [(group.size, group.outer_sizes) for group in invertible] == [(8, (4,))] * 4
    values = {"blocks.0.attention.qkv.weight[0]", "blocks.0.attention.qkv.bias[0]", "blocks.0.attention.out.weight[1]⁻ᵀ"}
    assert values in list(map(places, invertible))
    assert not found.refused


def test_bias_of_keys_is_moved_like_their_weight() -> None:
    """The bias of keys has no effect on the outputs; in the query-key groups it is inverted as the weight of keys is."""
    network = vit()
    found = derived(network)
    for kind in ("scale", "invertible"):
        (group,) = [
            group
            for group in found.of_kind(kind)
            if {place.block.parameter for place in group.places}
            == {"blocks.0.attention.qkv.weight", "blocks.0.attention.qkv.bias"}
        ]
        offsets = {(place.block.parameter, place.block.offset): place.action for place in group.places}
        inverse = {"scale": "inverse", "invertible": "inverse_transposed"}[kind]
        assert offsets == {
            ("blocks.0.attention.qkv.weight", 0): "direct",
            ("blocks.0.attention.qkv.bias", 0): "direct",
            ("blocks.0.attention.qkv.weight", 32 * 32): inverse,
            ("blocks.0.attention.qkv.bias", 32): inverse,
        }


def test_orthogonal_stream_of_a_vit() -> None:
    """The stream admits rotations in normal form; its LayerNorms are listed with their readers and the readers' biases."""
    network = vit()
    (stream,) = derived(network).of_kind("orthogonal")
    assert stream.needs_normal_form
    assert stream.fixes_ones
    assert [normalization.scale for normalization in stream.normalizations] == [
        *("blocks.0.norm1.weight", "blocks.0.norm2.weight", "blocks.1.norm1.weight", "blocks.1.norm2.weight", "norm.weight")
    ]
    assert stream.normalizations[0].shift == "blocks.0.norm1.bias"
    queries, keys, values = stream.normalizations[0].readers
    for number, reader in enumerate((queries, keys, values)):
        assert reader.place.block.offset == number * 32 * 32
        assert reader.bias is not None
        assert reader.bias.parameter == "blocks.0.attention.qkv.bias"
        assert reader.bias.view(torch.arange(96)).flatten().tolist() == list(range(32 * number, 32 * number + 32))
    touched = {place.block.parameter for place in stream.places}
    assert {"class_token", "positions", "embedding.weight", "embedding.bias", "blocks.1.linear2.bias", "head.weight"} <= touched
    assert not {"blocks.0.norm1.weight", "blocks.0.norm1.bias", "norm.weight", "head.bias"} & touched


def test_stream_of_torch_transformer_layers() -> None:
    """Layers of torch, which it can run as one operation, have the same groups as a transformer of single operations."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, 4)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(16, 2, 20, activation="gelu", batch_first=True, norm_first=True) for _ in range(2)
            )
            self.norm = nn.LayerNorm(16)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x).mean(1))

    found = derived(built(Encoder))
    assert [len(found.of_kind(kind)) for kind in ("scale", "orthogonal", "invertible")] == [9, 1, 4]
    (stream,) = found.of_kind("orthogonal")
    assert len(stream.normalizations) == 5


def test_network_whose_gradients_fail() -> None:
    """A network without a backward pass has no groups, and the reason says so."""

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise RuntimeError("no backward pass")

    class Rectified(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = Forward.apply(x)
            return result

    found = derived(built(with_activation(Rectified())))
    assert found.groups == ()
    assert str(found) == "refused: scale the network: its gradients cannot be computed: no backward pass"


def test_rotations_need_the_normal_form() -> None:
    """Rotations keep the function of weights in normal form to 1e-9; of others, or if they move the ones, they change it."""
    network = vit()
    (stream,) = derived(network).of_kind("orthogonal")
    images = torch.randn(SHAPE)
    state = random_weights(network, 5)
    rotation = random_elements([stream], 1)
    in_normal_form = normal_form(state, [stream])
    moved = act([stream], rotation, in_normal_form)
    assert functional_difference(network, in_normal_form, moved, images) <= 1e-9
    assert functional_difference(network, state, act([stream], rotation, state), images) > 1e-3
    general = random_elements([replace(stream, fixes_ones=False)], 1)
    assert functional_difference(network, in_normal_form, act([stream], general, in_normal_form), images) > 1e-3


def test_stream_with_another_elementwise_product() -> None:
    """LayerScale multiplies the stream's units one by one: no rotations, but scales of each branch; the reason is given."""

    class Scaled(Transformer):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(24))

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            for norm, attention in zip(self.norms, self.attention):
                x = x + self.gain * attention(norm(x))
            return self.head(self.norms[-1](x).mean(1))

    found = derived(built(Scaled))
    assert not found.of_kind("orthogonal")
    assert {"attention.0.out.weight[0]", "attention.0.out.bias[0]", "attention.1.out.weight[0]"} <= set().union(
        *(places(group) for group in found.of_kind("scale") if "gain[0]⁻¹" in places(group))
    )
    assert [refusal.reason for refusal in found.refused] == ["its units are not only added, normalized and read by linear maps"]


def test_normalized_queries_and_keys() -> None:
    """A LayerNorm on queries and keys leaves values and outputs only."""
    found = derived(built(FACTORIES["normalized attention"]))
    for group in found.of_kind("invertible"):
        assert {place.block.parameter.rsplit(".", 2)[1] for place in group.places} == {"qkv", "out"}


def test_units_within_groups_of_a_convolution() -> None:
    """In a grouped convolution, every group of channels has its own factors."""
    found = derived(built(grouped))
    (inner,) = [group for group in found.of_kind("scale") if "1.grouped.weight[1]⁻¹" in places(group)]
    assert inner.shape == (4, 4)
    assert len(inner.within) == 1


def test_parameter_with_two_names() -> None:
    """A tied parameter is moved under both of its names, by the same factors."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(192, 12)
            self.again = self.first
            self.head = nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.first(x.flatten(1))) + F.relu(self.again(-x.flatten(1))))

    network = built(Tied)
    (group,) = derived(network).groups
    assert {"first.weight[0]", "again.weight[0]", "first.bias[0]", "again.bias[0]", "head.weight[1]⁻¹"} == places(group)
    moved = act([group], random_elements([group], 0), network.state_dict())
    assert torch.equal(moved["first.weight"], moved["again.weight"])


def test_wrong_groups_are_refused_one_by_one() -> None:
    """Of three groups of which one lacks a place, the check returns two, and names the third with the difference."""
    network = perceptron(192, 20, 16, 12, 5)
    groups = derived(network).groups
    wrong = replace(groups[1], places=groups[1].places[:-1])
    kept, refused = certified(network, [groups[0], wrong, groups[2]], random_weights(network, 0), torch.zeros(SHAPE), 1e-9)
    assert kept == [groups[0], groups[2]]
    assert [refusal.name for refusal in refused] == ["3.weight[0]"]
    assert "random elements change the outputs by" in refused[0].reason


def test_derivation_does_not_change_the_network() -> None:
    """Weights, types, training mode and gradients stay."""
    network = built(batch_norm_network).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    derived(network)
    assert network.training
    assert all(parameter.grad is None and parameter.dtype == torch.float32 for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_network_without_hidden_units() -> None:
    """A linear classifier has no groups of any kind."""
    found = derived(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))
    assert found.groups == ()
    assert str(found) == ""
