"""Residual networks in normal form: functions, planted maps, monotone traces, and matching of several members."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from basin.matching.residual_networks import IMAGES, Derived, derived, largest_difference, loss, planted, vit
from basin.matching.toy_networks import built
from harness import StateDict, TaskFailed
from harness_basin.matching import LinearGroup, Symmetry, derive_linear_groups, derive_symmetry, functional_difference
from harness_basin.matching.residual.joint_residual import match_residual_jointly, total_distance
from harness_basin.matching.residual.moves import arrays_of, state_of
from harness_basin.matching.residual.normal_form import NormalForm, find_idle_biases
from harness_basin.matching.residual.residual_groups import ResidualGroups, residual_groups
from harness_basin.matching.residual.residual_matching import Maps, match_residual


def weights(seed: int = 0) -> StateDict:
    """Return the weights of a random transformer."""
    return {name: tensor.clone() for name, tensor in vit(seed).state_dict().items()}


def test_groups_of_the_transformer() -> None:
    """One stream, an MLP and four heads per block with two factors each; the key biases are the idle ones."""
    own = derived()
    assert [stream.fixes_ones for stream in own.groups.streams] == [True]
    assert len(own.groups.units) == 2
    assert [len(heads.factors) for heads in own.groups.heads] == [2, 2]
    assert [(block.parameter, block.offset) for block in own.idle_biases] == [
        ("blocks.0.attention.qkv.bias", 32),
        ("blocks.1.attention.qkv.bias", 32),
    ]
    normalized = {f"blocks.{block}.norm{k}.{name}" for block in (0, 1) for k in (1, 2) for name in ("weight", "bias")}
    normalized |= {"norm.weight", "norm.bias"}
    everything = {block.parameter for block in own.symmetry.blocks}
    assert {block.parameter for block in own.groups.counted} == everything - normalized


@pytest.mark.parametrize("balanced", [False, True])
def test_normal_form(balanced: bool) -> None:
    """It keeps the function, has γ = 1, β = 0, centered weights and no key biases, and is its own normal form."""
    own = derived()
    state = weights()
    state["blocks.0.norm1.weight"][3] = 0.0  # nothing is divided by γ
    form = own.form(balanced)
    normal = form.of(state)
    assert functional_difference(own.network, state, normal, IMAGES) <= 1e-9
    assert largest_difference(normal, form.of(normal)) <= 1e-12
    for name in ("blocks.0.norm1", "blocks.1.norm2", "norm"):
        assert torch.equal(normal[f"{name}.weight"], torch.ones(32, dtype=torch.float64))
        assert not normal[f"{name}.bias"].any()
    assert normal["positions"].mean(2).abs().max() <= 1e-12
    assert normal["blocks.0.linear2.weight"].mean(0).abs().max() <= 1e-12
    assert normal["blocks.0.linear1.weight"].mean(1).abs().max() <= 1e-12
    assert not normal["blocks.0.attention.qkv.bias"][32:64].any()
    query, key = normal["blocks.0.attention.qkv.weight"][:16].reshape(2, 8, 32), normal["blocks.0.attention.qkv.weight"][32:48]
    if balanced:
        bias = normal["blocks.0.attention.qkv.bias"][:16].reshape(2, 8, 1)
        query = torch.cat([query, bias], dim=2)
        key = key.reshape(2, 8, 32)
        assert torch.allclose(query @ query.mT, key @ key.mT, atol=1e-12)


@pytest.mark.parametrize("maps", ["orthogonal", "invertible"])
def test_planted_element_is_recovered(maps: Maps) -> None:
    """Permutations, rotations and maps within heads are undone: the weights are equal, and the barrier is 0."""
    own = derived()
    form = own.form(maps == "invertible")
    first = form.of(weights())
    moved = planted(own, first, 5, invertible=maps == "invertible")
    assert functional_difference(own.network, first, moved, IMAGES) <= 1e-9
    assert largest_difference(first, moved) > 0.5
    second = form.of(moved)
    matching = match_residual(own.groups, arrays_of(own.symmetry, first), arrays_of(own.symmetry, second), sweeps=5, maps=maps)
    aligned = state_of(matching.arrays, second)
    assert largest_difference(first, aligned) <= 1e-10
    labels = torch.arange(4)
    for share in (0.25, 0.5, 0.75):
        between = {name: share * first[name] + (1 - share) * aligned[name] for name in first}
        ends = share * loss(own, first, labels) + (1 - share) * loss(own, aligned, labels)
        assert abs(loss(own, between, labels) - ends) <= 1e-9


@pytest.mark.parametrize("maps", ["orthogonal", "invertible"])
def test_distance_falls_with_every_move(maps: Maps) -> None:
    """The trace is monotone, ends at the distance of the result, and the function stays."""
    own = derived()
    form = own.form(maps == "invertible")
    first, second = form.of(weights()), form.of(weights(1))
    reference = arrays_of(own.symmetry, first)
    matching = match_residual(own.groups, reference, arrays_of(own.symmetry, second), sweeps=5, maps=maps)
    assert len(matching.trace) > 10
    assert all(after < before for before, after in itertools.pairwise(matching.trace))
    assert matching.trace[-1] == pytest.approx(total_distance(own.groups, [reference, matching.arrays]), rel=1e-9)
    assert functional_difference(own.network, weights(1), state_of(matching.arrays, second), IMAGES) <= 1e-9


@pytest.mark.parametrize("maps", ["orthogonal", "invertible"])
def test_relabelled_inputs(maps: Maps) -> None:
    """If either network is moved by an element of its groups first, the distance after alignment is the same."""
    own = derived()
    form = own.form(maps == "invertible")
    first, second = form.of(weights()), form.of(weights(1))
    distances = []
    for one, other in (
        (first, second),
        (first, form.of(planted(own, second, 1, invertible=maps == "invertible"))),
        (form.of(planted(own, first, 2, invertible=False)), second),
    ):
        pair = [arrays_of(own.symmetry, state) for state in (one, other)]
        distances.append(match_residual(own.groups, *pair, sweeps=3, maps=maps).distance)
    assert distances[1:] == pytest.approx([distances[0]] * 2, rel=1e-6)


def test_planted_elements_of_several_members() -> None:
    """Three copies of a network end at its normal form."""
    own = derived()
    form = own.form()
    first = form.of(weights())
    members = [first, form.of(planted(own, first, 1)), form.of(planted(own, first, 2))]
    arrays = [arrays_of(own.symmetry, state) for state in members]
    found = match_residual_jointly(own.groups, arrays, sweeps=5, maps="invertible", stream=0)
    for aligned, state in zip(found.members, members, strict=True):
        assert largest_difference(first, state_of(aligned, state)) <= 1e-9
    assert found.distance <= 1e-12 * found.unmatched_distance


@pytest.mark.parametrize("maps", ["orthogonal", "invertible"])
def test_rounds_over_members(maps: Maps) -> None:
    """Every round brings three networks closer, functions stay, and the first one is at its normal form."""
    own = derived()
    form = own.form(maps == "invertible")
    states = [weights(seed) for seed in range(3)]
    normal = [form.of(state) for state in states]
    arrays = [arrays_of(own.symmetry, state) for state in normal]
    found = match_residual_jointly(own.groups, arrays, sweeps=3, maps=maps, stream=4)
    assert all(after <= before for before, after in itertools.pairwise(found.rounds))
    assert found.distance < found.rounds[0] < found.unmatched_distance
    assert found.distance == pytest.approx(found.rounds[-1], rel=1e-9)
    moved = [state_of(own_arrays, state) for own_arrays, state in zip(found.members, normal, strict=True)]
    assert largest_difference(moved[0], normal[0]) == 0
    for state, aligned in zip(states, moved, strict=True):
        assert functional_difference(own.network, state, aligned, IMAGES) <= 1e-9


def test_nearly_aligned_networks_stay() -> None:
    """A network and a slightly changed copy of it are matched by (nearly) nothing."""
    own = derived()
    form = own.form(balanced=False)
    first = form.of(weights())
    second = form.of({name: tensor + 1e-3 * torch.sin(17 * tensor) for name, tensor in weights().items()})
    pair = [arrays_of(own.symmetry, state) for state in (first, second)]
    matching = match_residual(own.groups, *pair, sweeps=5, maps="orthogonal")
    assert matching.distance <= matching.trace[0]
    assert largest_difference(second, state_of(matching.arrays, second)) < 0.01


@pytest.mark.parametrize("rows", [slice(0, 8), slice(32, 40), slice(64, 80), slice(0, 96)])
def test_dead_heads(rows: slice) -> None:
    """Queries, keys or values of heads that are 0, or all of a layer's, are matched, and the function stays."""
    own = derived()
    states = [weights(), weights(1)]
    states[1]["blocks.0.attention.qkv.weight"][rows] = 0.0
    states[1]["blocks.0.attention.qkv.bias"][rows] = 0.0
    for first, second in ((states[0], states[1]), (states[1], states[0])):
        normal = [own.form().of(state) for state in (first, second)]
        pair = [arrays_of(own.symmetry, state) for state in normal]
        matching = match_residual(own.groups, *pair, sweeps=2, maps="invertible")
        assert matching.distance < matching.trace[0]
        assert functional_difference(own.network, second, state_of(matching.arrays, normal[1]), IMAGES) <= 1e-9


def test_weights_that_are_not_finite() -> None:
    """The member and the parameter are named."""
    state = weights()
    state["positions"][0, 0, 0] = torch.nan
    with pytest.raises(TaskFailed, match=r"^member 1: 'positions' is not finite; has it diverged\?$"):
        derived().form().of(state, "member 1")


def timm_vit(**options: Any) -> tuple[nn.Module, ResidualGroups, tuple[LinearGroup, ...], Symmetry]:
    """Return a small Vision Transformer of timm in float64, with its groups."""
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 10}
    network = built(lambda: timm.create_model("vit_tiny_patch16_224", **sizes, **options)).double()
    symmetry = derive_symmetry(network, IMAGES)
    linear = derive_linear_groups(network, IMAGES, symmetry).groups
    return network, residual_groups(symmetry, linear), linear, symmetry


def test_transformer_of_timm() -> None:
    """Its stream, heads and units are found, and a planted element is undone."""
    network, groups, linear, symmetry = timm_vit()
    assert (len(groups.streams), len(groups.units), len(groups.heads)) == (1, 1, 1)
    form = NormalForm(groups, find_idle_biases(network, groups, IMAGES), balanced=True)
    own = Derived(network, symmetry, linear, groups, form.idle_biases)
    first = form.of(network.state_dict())
    assert functional_difference(network, network.state_dict(), first, IMAGES) <= 1e-9
    second = form.of(planted(own, first, 3))
    matching = match_residual(groups, *(arrays_of(symmetry, s) for s in (first, second)), sweeps=5, maps="invertible")
    assert largest_difference(first, state_of(matching.arrays, second)) <= 1e-9


def test_normalized_queries_and_keys() -> None:
    """The LayerNorms of queries and keys scale one another, so their dimensions are not rotated; the stream is."""
    network, groups, _, _ = timm_vit(qk_norm=True)
    assert len(groups.streams) == 1
    (text,) = groups.unused
    assert text.endswith(
        "'blocks.0.attn.q_norm.weight' cannot be moved into 'blocks.0.attn.k_norm.weight', which is no linear map"
    )
    state = network.state_dict()
    assert functional_difference(network, state, NormalForm(groups).of(state), IMAGES) <= 1e-9


class Merging(nn.Module):
    """A residual MLP on tokens, of which pairs are merged behind a LayerNorm over both."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(48, 12)
        self.norm1 = nn.LayerNorm(12)
        self.up = nn.Linear(12, 20)
        self.down = nn.Linear(20, 12)
        self.norm2 = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x.reshape(-1, 4, 48))
        x = x + self.down(torch.nn.functional.gelu(self.up(self.norm1(x))))
        return self.head(self.norm2(torch.cat([x[:, ::2], x[:, 1::2]], dim=2))).sum(1)


def test_layer_norm_over_several_copies_of_the_stream() -> None:
    """The stream is not rotated: its units are permuted, and the reason is given."""
    network = built(Merging).double()
    symmetry = derive_symmetry(network, IMAGES)
    groups = residual_groups(symmetry, derive_linear_groups(network, IMAGES, symmetry).groups)
    assert groups.streams == ()
    assert [text.partition(": ")[2] for text in groups.unused] == ["'norm2.weight' scales several copies of the stream at once"]
    assert len(groups.units) == 2


class Unbiased(nn.Module):
    """A residual MLP whose linear maps behind LayerNorm have no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(192, 12)
        self.norm1 = nn.LayerNorm(12)
        self.up = nn.Linear(12, 20, bias=False)
        self.down = nn.Linear(20, 12)
        self.norm2 = nn.LayerNorm(12)
        self.head = nn.Linear(12, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x.flatten(1))
        x = x + self.down(torch.nn.functional.gelu(self.up(self.norm1(x))))
        return self.head(self.norm2(x))


def test_shift_without_a_bias_to_contain_it() -> None:
    """Such weights have no normal form; with a shift of 0 they have one."""
    network = built(Unbiased).double()
    symmetry = derive_symmetry(network, IMAGES)
    groups = residual_groups(symmetry, derive_linear_groups(network, IMAGES, symmetry).groups)
    assert len(groups.streams) == 1
    state = network.state_dict()
    with pytest.raises(TaskFailed, match=r"^weights: 'up.weight' has no bias that could contain the shift 'norm1.bias'$"):
        NormalForm(groups).of(state)
    for name in ("norm1.bias", "norm2.bias"):
        state[name].zero_()
    assert functional_difference(network, state, NormalForm(groups).of(state), IMAGES) <= 1e-9
