"""Symmetries derived from running networks: known groups are found, and unsupported operations are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basin.matching.toy_networks import FACTORIES, SHAPE, Padded, Transformer, built, convolutional, grouped, perceptron
from harness_basin.matching import (
    Symmetry,
    SymmetryViolated,
    UnknownOperation,
    derive_symmetry,
    functional_difference,
    permute,
    random_permutations,
    verify,
)
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork


def derived(network: nn.Module) -> Symmetry:
    return derive_symmetry(network, torch.randn(SHAPE))


def memberships(symmetry: Symmetry) -> set[frozenset[str]]:
    """Return the groups as sets of `parameter:axis`."""
    found = set()
    for group in range(len(symmetry.groups)):
        found.add(frozenset(f"{name}:{axis}" for name, axis in symmetry.places(group)))
    return found


def prefixed(module: str, *names: str) -> frozenset[str]:
    """Return the names of a module's parameters with the module's name."""
    return frozenset(f"{module}.{name}" for name in names)


def resnet20(channels: int = 16) -> ResNet20Network:
    return ResNet20Network(channels, (3, 8, 8), 10)


def vit() -> ViTNetwork:
    return ViTNetwork((3, 8, 8), 10, patch=4, width=32, mlp=24, depth=6, heads=4, dropout=0.2, attention_dropout=0.1)


NETWORKS = {**FACTORIES, "resnet20": resnet20, "vit": vit}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_permutations_do_not_change_the_function(name: str) -> None:
    """Weights change, and outputs differ only by rounding."""
    network = built(NETWORKS[name])
    symmetry = derived(network)
    assert symmetry.groups
    for stream in range(3):
        state = network.state_dict()
        permuted = permute(symmetry, random_permutations(symmetry, stream), state)
        assert any(not torch.equal(permuted[key], state[key]) for key in state)
        assert functional_difference(network, state, permuted, torch.randn(SHAPE)) < 1e-12
        assert verify(network, symmetry, torch.randn(SHAPE), stream=stream) < 1e-12


def test_resnet20_has_its_twelve_permutations() -> None:
    """Three residual streams and nine inner groups, with the parameters that git-re-basin's specification lists."""
    inner = []
    streams = []
    for g in range(3):
        stream = set()
        if g == 0:
            stream |= {"conv1.weight:0", "norm1.weight:0", "norm1.bias:0"}
        for b in range(3):
            block = f"groups.{g}.{b}"
            inner.append(
                prefixed(block, "conv1.weight:0", "norm1.weight:0", "norm1.bias:0", "conv2.weight:1"),
            )
            stream |= prefixed(block, "conv2.weight:0", "norm2.weight:0", "norm2.bias:0")
            if b == 0 and g > 0:
                stream |= prefixed(block, "shortcut_conv.weight:0", "shortcut_norm.weight:0", "shortcut_norm.bias:0")
            else:
                stream |= prefixed(block, "conv1.weight:1")
        if g < 2:
            stream |= prefixed(f"groups.{g + 1}.0", "conv1.weight:1", "shortcut_conv.weight:1")
        else:
            stream |= {"dense.weight:1"}
        streams.append(frozenset(stream))
    symmetry = derived(resnet20())
    assert memberships(symmetry) == {*inner, *streams}
    assert sorted(group.size for group in symmetry.groups) == [16] * 4 + [32] * 4 + [64] * 4
    assert symmetry.count == 12


def test_vit_has_streams_heads_and_dimensions() -> None:
    """One residual stream; per block the MLP, the heads, and in each head query-key and value-output dimensions."""
    symmetry = derived(vit())
    residual = {"class_token:2", "positions:2", "embedding.weight:0", "embedding.bias:0", "norm.weight:0", "norm.bias:0"}
    residual |= {"head.weight:1"}
    expected = set()
    for i in range(6):
        block = f"blocks.{i}"
        residual |= prefixed(block, "norm1.weight:0", "norm1.bias:0", "norm2.weight:0", "norm2.bias:0")
        residual |= prefixed(block, "attention.qkv.weight:1", "attention.out.weight:0", "attention.out.bias:0")
        residual |= prefixed(block, "linear1.weight:1", "linear2.weight:0", "linear2.bias:0")
        expected.add(prefixed(block, "attention.qkv.weight:0", "attention.qkv.bias:0"))
        expected.add(prefixed(block, "attention.qkv.weight:0", "attention.qkv.bias:0", "attention.out.weight:1"))
        expected.add(prefixed(block, "linear1.weight:0", "linear1.bias:0", "linear2.weight:1"))
    expected.add(frozenset(residual))
    assert memberships(symmetry) == expected
    assert len(symmetry.groups) == 1 + 6 * 4
    assert symmetry.count == 1 + 6 * (1 + 1 + 4 + 4)
    assert [group.size for group in symmetry.groups if group.within] == [8] * 12


def test_flattened_feature_maps() -> None:
    """The input axis of the next layer is channels × pixels, and the channels can be permuted."""
    symmetry = derived(built(lambda: convolutional(6)))
    (block,) = [b for b in symmetry.blocks if b.parameter == "8.weight"]
    assert [(f.axis, f.size, f.group is None) for f in block.factors] == [(0, 12, False), (1, 12, False), (1, 4, True)]


def test_grouped_convolution() -> None:
    """Whole groups of channels are permuted, and channels within each group, on the input and the output side."""
    symmetry = derived(built(grouped))
    inside = [group for group in symmetry.groups if group.within]
    assert [(group.size, symmetry.groups[group.within[0]].size) for group in inside] == [(4, 4)] * 4
    assert {name for name, _ in symmetry.places(symmetry.groups.index(inside[0]))} >= {"1.expand.weight", "1.grouped.weight"}


def test_normalization_scale_that_all_heads_share() -> None:
    """The dimensions of queries and keys are permuted in the same way in all heads, those of values per head."""
    symmetry = derived(built(lambda: Transformer(normalized=True)))
    inner = [group for group in symmetry.groups if group.size == 8]
    assert [bool(group.within) for group in inner] == [False, True, False, True]


def test_tied_weight() -> None:
    """Both names are permuted, and only the first one counts in the objective."""
    symmetry = derived(built(Padded))
    counts = {b.parameter: b.counts for b in symmetry.blocks}
    assert counts["tied.weight"]
    assert not counts["again.weight"]


def test_batch_norm_statistics() -> None:
    """Running means and variances are permuted and do not count in the objective."""
    symmetry = derived(built(lambda: convolutional(6)))
    assert {b.parameter for b in symmetry.blocks if not b.counts} == {"1.running_mean", "1.running_var"}


class Fourier(nn.Module):
    """An operation without a rule, whose result depends on the order of the units."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x, norm="ortho").abs()


def test_unknown_operation_in_a_module() -> None:
    """The error names the module and the operation."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Sequential(Fourier()), nn.Linear(5, 2))
    with pytest.raises(UnknownOperation, match=r"^2\.0: the effect of operation 'aten\._fft_r2c\.default' on permutations"):
        derived(network)


def test_unknown_operation_in_the_network_itself() -> None:
    """The error names the network."""
    with pytest.raises(UnknownOperation, match=r"^the network: .*networks that use it cannot be permuted$"):
        derive_symmetry(Inverse(), torch.randn(SHAPE))


class Inverse(nn.Module):
    """A network without submodules that uses an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x[:, 0] @ self.weight)


def test_unknown_operation_on_pixels() -> None:
    """An operation without a rule is accepted if its inputs are fixed."""
    network = nn.Sequential(nn.Flatten(), Fourier(), nn.Linear(97, 6), nn.ReLU(), nn.Linear(6, 2))
    assert memberships(derived(network)) == {frozenset({"2.weight:0", "2.bias:0", "4.weight:1"})}


def test_cumulative_sum_over_hidden_units() -> None:
    """The units before the sum are fixed; the units after it are free."""

    class Cumulative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1)

    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), Cumulative(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    assert memberships(derived(network)) == {frozenset({"3.weight:0", "3.bias:0", "5.weight:1"})}


def test_black_example_image() -> None:
    """Input channels are fixed although all their values are equal."""
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    assert memberships(derive_symmetry(network, torch.zeros(SHAPE))) == memberships(derived(network))


class Unused(nn.Module):
    """A network with an unused parameter and with hidden units among its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(192, 6)
        self.head = nn.Linear(6, 2)
        self.unused = nn.Linear(7, 9)
        self.unused_square = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.body(x.flatten(1)))
        return {"logits": self.head(hidden), "hidden": hidden}


def test_hidden_units_that_are_an_output() -> None:
    """They are fixed, and unused parameters have no groups."""
    assert derived(Unused()).groups == ()


def test_derivation_has_no_side_effects() -> None:
    """The network's mode, weights and hooks and the global random generator do not change."""
    network = built(lambda: convolutional(6)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    example = torch.randn(SHAPE)
    generator = torch.get_rng_state()
    derive_symmetry(network, example)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_wrong_symmetry() -> None:
    """A symmetry without one of the biases changes the function and is refused."""
    network = built(lambda: perceptron(192, 6, 5))
    symmetry = derived(network)
    blocks = tuple(block for block in symmetry.blocks if block.parameter != "1.bias")
    with pytest.raises(SymmetryViolated, match=r"^permuting hidden units changes the outputs by \d\.\de-\d+, relative"):
        verify(network, Symmetry(symmetry.groups, blocks, symmetry.shapes), torch.randn(SHAPE))


def test_network_that_is_not_deterministic() -> None:
    """A network with noise in eval mode is refused."""

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(x.shape[-1:], dtype=x.dtype)

    with pytest.raises(SymmetryViolated, match="not a function of its input alone"):
        derived(nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5), Noisy()))


class Amplifying(nn.Module):
    """A layer that amplifies rounding errors by a factor of 1e7."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(1e7 * x)


def test_network_that_amplifies_rounding_errors() -> None:
    """A difference as large as that of a change in the last place of the weights is accepted."""
    network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5), Amplifying()))
    assert len(derived(network).groups) == 1
