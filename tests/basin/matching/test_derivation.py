"""Symmetries derived by running networks: the groups are the right ones, and what is not understood is refused."""

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
    return {frozenset(f"{name}:{axis}" for name, axis in symmetry.places(g)) for g in range(len(symmetry.groups))}


def resnet20(channels: int = 16) -> ResNet20Network:
    return ResNet20Network(channels, (3, 8, 8), 10)


def vit() -> ViTNetwork:
    return ViTNetwork((3, 8, 8), 10, patch=4, width=32, mlp=24, depth=6, heads=4, dropout=0.2, attention_dropout=0.1)


NETWORKS = {**FACTORIES, "resnet20": resnet20, "vit": vit}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_permutations_leave_the_function(name: str) -> None:
    """Outputs move by rounding alone."""
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
    """Three residual streams and nine inner groups, with the members that git-re-basin's specification lists."""
    inner = [
        frozenset(f"groups.{g}.{b}.{p}" for p in ("conv1.weight:0", "norm1.weight:0", "norm1.bias:0", "conv2.weight:1"))
        for g in range(3)
        for b in range(3)
    ]
    streams = []
    for g in range(3):
        ends = {"conv1.weight:0", "norm1.weight:0", "norm1.bias:0"} if g == 0 else set()
        for b in range(3):
            block = f"groups.{g}.{b}"
            ends |= {f"{block}.{p}" for p in ("conv2.weight:0", "norm2.weight:0", "norm2.bias:0")}
            if b == 0 and g > 0:
                ends |= {f"{block}.shortcut_{p}" for p in ("conv.weight:0", "norm.weight:0", "norm.bias:0")}
            else:
                ends |= {f"{block}.conv1.weight:1"}
        if g < 2:
            ends |= {f"groups.{g + 1}.0.{p}" for p in ("conv1.weight:1", "shortcut_conv.weight:1")}
        else:
            ends |= {"dense.weight:1"}
        streams.append(frozenset(ends))
    symmetry = derived(resnet20())
    assert memberships(symmetry) == {*inner, *streams}
    assert sorted(group.size for group in symmetry.groups) == [16] * 4 + [32] * 4 + [64] * 4
    assert symmetry.count == 12


def test_vit_has_streams_heads_and_dimensions() -> None:
    """One residual stream; per block the MLP, the heads, and in each head query-key and value-output dimensions."""
    symmetry = derived(vit())
    blocks = [f"blocks.{i}" for i in range(6)]
    residual = {"class_token:2", "positions:2", "embedding.weight:0", "embedding.bias:0", "norm.weight:0", "norm.bias:0"}
    residual |= {"head.weight:1"}
    for block in blocks:
        residual |= {f"{block}.{norm}.{p}:0" for norm in ("norm1", "norm2") for p in ("weight", "bias")}
        residual |= {f"{block}.{p}" for p in ("attention.qkv.weight:1", "attention.out.weight:0", "attention.out.bias:0")}
        residual |= {f"{block}.{p}" for p in ("linear1.weight:1", "linear2.weight:0", "linear2.bias:0")}
    expected = {frozenset(residual)}
    for block in blocks:
        rows = {f"{block}.attention.qkv.weight:0", f"{block}.attention.qkv.bias:0"}
        expected |= {frozenset(rows), frozenset({*rows, f"{block}.attention.out.weight:1"})}
        expected |= {frozenset(f"{block}.{p}" for p in ("linear1.weight:0", "linear1.bias:0", "linear2.weight:1"))}
    assert memberships(symmetry) == expected
    assert len(symmetry.groups) == 1 + 6 * 4
    assert symmetry.count == 1 + 6 * (1 + 1 + 4 + 4)
    assert [group.size for group in symmetry.groups if group.within] == [8] * 12


def test_channels_times_pixels() -> None:
    """Flattened features keep the channels' permutation: an axis of channels × pixels."""
    symmetry = derived(built(lambda: convolutional(6)))
    (block,) = [b for b in symmetry.blocks if b.parameter == "8.weight"]
    assert [(f.axis, f.size, f.group is None) for f in block.factors] == [(0, 12, False), (1, 12, False), (1, 4, True)]


def test_grouped_convolution() -> None:
    """Groups of channels change places as wholes, and channels within each group, on its two sides."""
    symmetry = derived(built(grouped))
    inside = [group for group in symmetry.groups if group.within]
    assert [(group.size, symmetry.groups[group.within[0]].size) for group in inside] == [(4, 4)] * 4
    assert {name for name, _ in symmetry.places(symmetry.groups.index(inside[0]))} >= {"1.expand.weight", "1.grouped.weight"}


def test_scale_that_heads_share() -> None:
    """Queries and keys of all heads permute alike; values do not have to."""
    symmetry = derived(built(lambda: Transformer(normalized=True)))
    inner = [group for group in symmetry.groups if group.size == 8]
    assert [bool(group.within) for group in inner] == [False, True, False, True]


def test_second_name_of_a_tied_weight_moves_and_counts_once() -> None:
    """Both names of one weight are permuted; the objective has it once."""
    symmetry = derived(built(Padded))
    counts = {b.parameter: b.counts for b in symmetry.blocks}
    assert counts["tied.weight"]
    assert not counts["again.weight"]


def test_statistics_move_and_do_not_count() -> None:
    """Running means and variances are permuted, and are no weights."""
    symmetry = derived(built(lambda: convolutional(6)))
    assert {b.parameter for b in symmetry.blocks if not b.counts} == {"1.running_mean", "1.running_var"}


class Odd(nn.Module):
    """Hidden units through something whose order matters."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x, norm="ortho").abs()


def test_operation_that_is_not_understood() -> None:
    """The error names the module and the operation."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Sequential(Odd()), nn.Linear(5, 2))
    with pytest.raises(UnknownOperation, match=r"^2\.0: the effect of operation 'aten\._fft_r2c\.default' on permutations"):
        derived(network)


def test_operation_that_is_not_understood_in_the_network_itself() -> None:
    """Without modules, too, the error says where."""
    with pytest.raises(UnknownOperation, match=r"^the network: .*networks that use it cannot be permuted$"):
        derive_symmetry(_Bare(), torch.randn(SHAPE))


class _Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x[:, 0] @ self.weight)


def test_anything_may_be_done_to_pixels() -> None:
    """An operation without a rule is harmless where nothing can be permuted."""
    network = nn.Sequential(nn.Flatten(), Odd(), nn.Linear(97, 6), nn.ReLU(), nn.Linear(6, 2))
    assert memberships(derived(network)) == {frozenset({"2.weight:0", "2.bias:0", "4.weight:1"})}


def test_order_that_matters_fixes() -> None:
    """A cumulative sum over hidden units leaves none to permute before it; those after it are free."""

    class Cumulative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1)

    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), Cumulative(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    assert memberships(derived(network)) == {frozenset({"3.weight:0", "3.bias:0", "5.weight:1"})}


def test_shared_constant_channels() -> None:
    """An image that is all black does not make its channels exchangeable."""
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    assert memberships(derive_symmetry(network, torch.zeros(SHAPE))) == memberships(derived(network))


class Unused(nn.Module):
    """Has a parameter that plays no part, and returns more than one output, one of them hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.idle = nn.Linear(192, 6), nn.Linear(6, 2), nn.Linear(7, 9)
        self.after = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = F.relu(self.body(x.flatten(1)))
        return {"logits": self.head(hidden), "hidden": hidden}


def test_outputs_and_idle_parameters_stay() -> None:
    """Hidden units that are an output may not move; what is not used is left alone."""
    assert derived(Unused()).groups == ()


def test_network_is_left_as_it_was() -> None:
    """Mode, weights and hooks are the same afterwards, and no global generator has moved."""
    network = built(lambda: convolutional(6)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    example = torch.randn(SHAPE)
    generator = torch.get_rng_state()
    derive_symmetry(network, example)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_wrong_symmetry_is_noticed() -> None:
    """A symmetry that forgets a bias changes the function, and is refused."""
    network = built(lambda: perceptron(192, 6, 5))
    symmetry = derived(network)
    blocks = tuple(block for block in symmetry.blocks if block.parameter != "1.bias")
    with pytest.raises(SymmetryViolated, match=r"^permuting hidden units changes the outputs by \d\.\de-\d+, relative"):
        verify(network, Symmetry(symmetry.groups, blocks, symmetry.shapes), torch.randn(SHAPE))


def test_network_that_is_not_a_function() -> None:
    """Noise in eval mode cannot be verified."""

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(x.shape[-1:], dtype=x.dtype)

    with pytest.raises(SymmetryViolated, match="not a function of its input alone"):
        derived(nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5), Noisy()))


class Explosive(nn.Module):
    """Magnifies rounding by a million."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(1e7 * x)


def test_network_that_magnifies_rounding() -> None:
    """What a change in the last place of the weights does is rounding, too."""
    network = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5), Explosive()))
    assert len(derived(network).groups) == 1
