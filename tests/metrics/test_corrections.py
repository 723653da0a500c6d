"""Corrections of mixtures: goals, identity at members, folding, which layers are corrected, and what cannot be corrected."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness import CorrectionContext, PluginChoice, Split, TaskFailed
from harness.networks.evaluation import NormalizedImages
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness.networks.recomputation import recomputed
from harness.registry.catalogue import load_catalogue
from harness_basin.matching import derive_symmetry, match, permute, random_permutations
from harness_metrics.corrections import Repair, Rescale, Reshift
from harness_metrics.corrections.calls import ForwardObserver
from harness_metrics.corrections.repairing import Channels, Goal, apply, measure, measure_members
from harness_metrics.corrections.sites import find_sites
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

CATALOGUE = load_catalogue()
HALF = np.array([0.5, 0.5])
REPAIRS = ("repair", "rescale", "reshift")


def pictures(count: int = 64) -> NormalizedImages:
    """Return random images (count, 3, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return NormalizedImages(Split(images, torch.arange(count) % 4), ((0.5,) * 3, (0.3,) * 3), torch.device("cpu"))


class Plain(nn.Module):
    """Convolutions with and without bias and linear layers, without normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.unbiased = nn.Conv2d(6, 5, 3, bias=False)
        self.hidden = nn.Linear(5, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu_()
        x = torch.relu(self.unbiased(x))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


class Normalized(nn.Module):
    """A convolution before BatchNorm, one before GroupNorm, and a linear layer before LayerNorm."""

    def __init__(self, batchnorm: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(4) if batchnorm else nn.Identity()
        self.conv2 = nn.Conv2d(4, 4, 3, bias=False)
        self.norm2 = nn.GroupNorm(2, 4)
        self.hidden = nn.Linear(4, 6)
        self.norm3 = nn.LayerNorm(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.head(torch.relu(self.norm3(self.hidden(x.mean((2, 3))))))


class Attending(nn.Module):
    """Torch's attention: of patches to one another, then of their mean to the patches."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Linear(12, 8)
        self.attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
        self.pooling = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), -1, 12))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        pooled, _ = self.pooling(x.mean(1, keepdim=True), x, x)
        return self.head(torch.relu(pooled.squeeze(1)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": Attending,
    "plain": Plain,
    "normalized": Normalized,
    "resnet20": partial(ResNet20Network, 4, (3, 8, 8), 4),
    "vit": partial(ViTNetwork, (3, 8, 8), 4, patch=4, width=16, mlp=16, depth=1, heads=2, dropout=0.0, attention_dropout=0.0),
}


def built(make: Callable[[], nn.Module], members: int = 2) -> list[nn.Module]:
    """Return networks in evaluation mode with random weights and biases, and running statistics that fit them."""
    found = []
    for member in range(members):
        torch.manual_seed(member)
        module = make()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        state = recomputed(FlatNetwork(copy.deepcopy(module)), module.state_dict(), pictures())
        module.load_state_dict(state)
        found.append(module.eval())
    return found


def mixture(modules: Sequence[nn.Module], images: NormalizedImages | None = None) -> InterpolatedNetwork:
    """Return the network between modules."""
    images = images or pictures()
    network = FlatNetwork(copy.deepcopy(modules[0]))
    states = [module.state_dict() for module in modules]
    choose = partial(CATALOGUE.choose, "correction")
    return InterpolatedNetwork(
        network, states, images, images, splits=lambda name: (Split(images.images, torch.arange(4)), images), corrections=choose
    )


def context_of(module: nn.Module, images: Tensor, members: Sequence[nn.Module] = ()) -> CorrectionContext:
    """Return a context whose sample is one batch of images."""

    def set_member(index: int) -> None:
        if members:
            module.load_state_dict(members[index].state_dict())

    return CorrectionContext(module, max(1, len(members)), set_member, lambda: iter([images]), lambda: None, ())


def sites_of(module: nn.Module, before: bool = False) -> list[tuple[int, bool]]:
    """Return the number of each corrected call, and whether it is folded."""
    sites = find_sites(module, torch.randn(2, 3, 8, 8), before)
    return [(site.call, bool(site.weight)) for site in sites]


class Wide(nn.Module):
    """One hidden unit."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 1)
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.hidden.weight.fill_(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


@pytest.mark.parametrize(("sign", "plain"), [(1, 2.0), (-1, 1.0)])
@torch.no_grad()
def test_standard_deviations_are_averaged(sign: int, plain: float) -> None:
    """Deviations 1 and 3 give 2 at the midpoint, and not the root of the mean variance √5, however correlated the units are."""
    images = torch.linspace(-1, 1, 100).view(-1, 1)
    images /= images.std(correction=0)
    members = [Wide(1.0), Wide(3.0 * sign)]
    context = context_of(Wide(1.0), images, members)
    found = measure_members(context, False)
    torch.testing.assert_close(found.channels[0].deviation.flatten(), torch.tensor([1.0, 3.0], dtype=torch.float64))
    network = context.network
    network.hidden.weight.copy_((members[0].hidden.weight + members[1].hidden.weight) / 2)
    assert network.hidden(images).std(correction=0) == pytest.approx(plain, rel=1e-5)
    Repair().correct(context, HALF, found)
    assert network.hidden(images).std(correction=0) == pytest.approx(2.0, rel=1e-5)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.6, 1.0])
@torch.no_grad()
def test_collapse_of_correlated_units(correlation: float) -> None:
    """Two Gaussian units of deviation 1 and correlation ρ have √((1 + ρ)/2) at the midpoint, and 1 after the correction."""
    images = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    members = []
    for row in ([1.0, 0.0], [correlation, (1 - correlation**2) ** 0.5]):
        member = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2)).double()
        member[0].weight.copy_(torch.tensor([row]))
        members.append(member)
    context = context_of(copy.deepcopy(members[0]), images, members)
    found = measure_members(context, False)
    hidden = context.network[0]
    hidden.weight.copy_((members[0][0].weight + members[1][0].weight) / 2)
    hidden.bias.zero_()
    assert float(hidden(images).std(correction=0)) == pytest.approx(((1 + correlation) / 2) ** 0.5, abs=0.01)
    Repair().correct(context, HALF, found)
    assert float(hidden(images).std(correction=0)) == pytest.approx(float(found.channels[0].deviation.mean()), rel=1e-9)
    assert float(hidden(images).std(correction=0)) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", ["plain", "resnet20", "vit", "attention"])
@torch.no_grad()
def test_correction_at_a_vertex_is_the_identity(name: str, before: bool) -> None:
    """Given a member's weights and λ, every scale is 1 and every shift 0: the outputs do not change by more than 1e-6."""
    members = [module.double() for module in built(NETWORKS[name])]
    images = pictures().take(torch.arange(64)).double()
    context = context_of(copy.deepcopy(members[0]), images, members)
    found = measure_members(context, before)
    context.set_member(1)
    expected = context.network(images)
    Repair().correct(context, np.array([0.0, 1.0]), found)
    torch.testing.assert_close(context.network(images), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["plain", "resnet20", "vit", "attention"])
@pytest.mark.parametrize("correction", [Repair, Rescale, Reshift])
@torch.no_grad()
def test_correcting_twice(correction: type[Repair], name: str) -> None:
    """A corrected network has its goal, so a second correction changes nothing."""
    members = [module.double() for module in built(NETWORKS[name])]
    images = pictures().take(torch.arange(64)).double()
    context = context_of(copy.deepcopy(members[0]), images, members)
    found = measure_members(context, False)
    first, second = (module.state_dict() for module in members)
    context.network.load_state_dict({key: (first[key] + second[key]) / 2 for key in first})
    plain = context.network(images)
    correction().correct(context, HALF, found)
    once = context.network(images)
    correction().correct(context, HALF, found)
    torch.testing.assert_close(context.network(images), once, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(once, plain, rtol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("correction", ["none", *REPAIRS])
def test_identity_at_a_member(name: str, correction: str) -> None:
    """A member is evaluated as it is, to the bit, also after a mixture was corrected."""
    network = mixture(built(NETWORKS[name]))
    vertex = np.array([0.0, 1.0])
    expected = network.logits(vertex, "test")
    assert not np.array_equal(network.logits(HALF, "test", correction), expected)
    assert np.array_equal(network.logits(vertex, "test", correction), expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("correction", REPAIRS)
def test_correction_vanishes_towards_a_member(name: str, correction: str) -> None:
    """Near a member, the corrected network is the member, up to the distance."""
    network = mixture(built(NETWORKS[name]))
    point = np.array([1e-4, 1 - 1e-4])
    uncorrected = "batchnorm" if network.has_running_statistics else "none"
    assert network.logits(point, "test", correction) == pytest.approx(network.logits(point, "test", uncorrected), abs=0.02)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("correction", REPAIRS)
def test_aligned_copies_do_not_change(name: str, correction: str) -> None:
    """A permuted copy that matching aligns again gives mixtures with the member's logits."""
    (module,) = built(NETWORKS[name], members=1)
    images = pictures()
    symmetry = derive_symmetry(copy.deepcopy(module), images.take(torch.arange(2)))
    state = module.state_dict()
    permuted = permute(symmetry, random_permutations(symmetry, 3), state)
    aligned = permute(symmetry, match(symmetry, state, permuted, stream=0).permutations, permuted)
    other = copy.deepcopy(module)
    other.load_state_dict(aligned)
    network = mixture([module, other])
    base = None if network.has_running_statistics else "none"
    expected = network.logits(HALF, "test", base)
    assert network.logits(HALF, "test", correction) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("name", ["plain", "resnet20", "vit", "attention"])
@torch.no_grad()
def test_corrected_channels_have_their_goal(name: str, before: bool) -> None:
    """On the sample, every corrected channel has the λ-weighted mean and deviation of the members'."""
    members = built(NETWORKS[name])
    images = pictures().take(torch.arange(64))
    context = context_of(copy.deepcopy(members[0]), images, members)
    found = measure_members(context, before)
    point = np.array([0.3, 0.7])
    mixed = {key: 0.3 * a + 0.7 * members[1].state_dict()[key] for key, a in members[0].state_dict().items()}
    context.network.load_state_dict(mixed)
    uncorrected = measure(context, found.sites)
    Repair().correct(context, point, found)
    weights = torch.tensor(point)
    changed = False
    for goal, plain, now in zip(found.channels, uncorrected, measure(context, found.sites), strict=True):
        torch.testing.assert_close(now.mean, weights @ goal.mean, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(now.deviation, weights @ goal.deviation, atol=1e-4, rtol=1e-3)
        changed = changed or not torch.allclose(plain.deviation, now.deviation, rtol=0.05)
    assert changed


@pytest.mark.parametrize("name", ["plain", "resnet20", "vit", "attention"])
@torch.no_grad()
def test_goal_over_several_batches(name: str) -> None:
    """Measured in batches, the corrected channels have their goal up to the differences between batches."""
    members = built(NETWORKS[name])
    batches = pictures(128).take(torch.arange(128)).split(32)
    context = replace(context_of(copy.deepcopy(members[0]), batches[0], members), batches=lambda: iter(batches))
    found = measure_members(context, False)
    first, second = (module.state_dict() for module in members)
    context.network.load_state_dict({key: (first[key] + second[key]) / 2 for key in first})
    Repair().correct(context, HALF, found)
    for goal, now in zip(found.channels, measure(context, found.sites), strict=True):
        deviation = goal.deviation.mean(0)
        assert ((now.deviation - deviation).abs() / deviation.clamp(min=1e-3)).max() < 0.2
        assert ((now.mean - goal.mean.mean(0)).abs() / deviation.clamp(min=1e-3)).max() < 0.3


@pytest.mark.parametrize("name", ["plain", "resnet20", "vit", "attention"])
@torch.no_grad()
def test_folded_and_hooked_corrections_are_equal(name: str) -> None:
    """Parameters that scale and shift the channels, and hooks that do it, give the same logits."""
    (module,) = built(NETWORKS[name], members=1)
    images = pictures().take(torch.arange(16))
    sites = find_sites(module, images[:2], False)
    assert any(site.weight for site in sites)
    context = context_of(module, images)
    affines = []
    for channels in measure(context, sites):
        goal = Channels(channels.mean + 0.1, 1.2 * channels.deviation)
        affines.append(Goal(goal, mean=True, deviation=True).affine(channels))
    before = module(images)
    handles = apply(module, sites, affines, fold=False)
    hooked = module(images)
    for handle in handles:
        handle.remove()
    assert torch.equal(module(images), before)
    apply(module, sites, affines)
    folded = module(images)
    torch.testing.assert_close(folded, hooked, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(folded, before, atol=1e-3)


def test_corrected_layers() -> None:
    """Maps without normalization, norms after maps, nothing before BatchNorm, and never the classifier."""
    assert sites_of(Plain().eval()) == [(0, True), (1, False), (2, True)]
    assert sites_of(Normalized().eval()) == [(3, True), (5, True)]
    assert sites_of(Normalized().eval(), before=True) == [(2, False), (4, True)]
    assert sites_of(Normalized(batchnorm=False).eval()) == [(0, False), (2, True), (4, True)]


def test_corrected_layers_of_residual_networks() -> None:
    """ResNet20 has 21 convolutions with LayerNorm, fused with ReLU and shortcut; a block of the ViT has four linear maps."""
    resnet = NETWORKS["resnet20"]().eval()
    assert len(sites_of(resnet)) == 21
    assert all(folded for _, folded in sites_of(resnet))
    assert not any(folded for _, folded in sites_of(resnet, before=True))
    vit = NETWORKS["vit"]().eval()
    maps = [layer for layer in vit.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert len(sites_of(vit)) == len(maps) - 1
    assert all(folded for _, folded in sites_of(vit))


def test_corrected_layers_of_attention() -> None:
    """Torch's attention has queries, keys and values of one input in one map, which is folded, and else two."""
    assert sites_of(Attending().eval()) == [(0, True), (1, True), (2, True), (3, False), (4, False), (5, True)]
    assert sites_of(Attending(bias=False).eval()) == [(0, True), *((number, False) for number in range(1, 6))]
    encoder = nn.TransformerEncoderLayer(192, 2, 6, batch_first=True, norm_first=True)
    layer = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 192)), encoder, nn.Flatten(), nn.Linear(192, 4)).eval()
    assert sites_of(layer) == [(1, True), (2, True), (4, True), (5, True)]


@torch.no_grad()
def test_queries_keys_values_and_outputs_are_corrected() -> None:
    """A channel of each of the four maps of torch's attention gets the mean of the members' deviations."""
    members = built(Attending)
    images = pictures().take(torch.arange(64))
    context = context_of(copy.deepcopy(members[0]), images, members)
    found = measure_members(context, False)
    assert [len(site.deviation[0]) for site in found.channels] == [8, 24, 8, 8, 16, 8]
    tokens = members[0].embedding(images.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(64, -1, 12))
    attention = members[0].attention
    projected = nn.functional.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    torch.testing.assert_close(found.channels[1].mean[0], projected.mean((0, 1)).double(), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_attention_is_the_same_with_and_without_an_observer() -> None:
    """Observing a network with masks, weights or separate projections does not change its outputs."""
    layers = {"a": nn.MultiheadAttention(8, 2, add_bias_kv=True), "b": nn.MultiheadAttention(8, 4, kdim=6, vdim=5)}
    x, keys, values = torch.randn(5, 3, 8), torch.randn(7, 3, 6), torch.randn(7, 3, 5)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)

    class Both(nn.Module):
        """Calls both."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict(layers)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            y, weights = self.layers["a"](x, x, x, attn_mask=mask)
            return (y, weights, *self.layers["b"](y, keys, values, average_attn_weights=False))

    both = Both().eval()
    expected = both(x)
    with ForwardObserver(both, lambda call: call.output):
        observed = both(x)
    for a, b in zip(observed, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_weight_of_two_layers_is_not_changed() -> None:
    """A correction of a layer whose parameters another layer uses is a hook."""
    module = Normalized(batchnorm=False).eval()
    module.norm3.weight = module.norm3.bias
    assert sites_of(module) == [(0, False), (2, True), (4, False)]


def test_copy_of_a_corrected_network_keeps_its_correction() -> None:
    """`network_at` returns the network that was evaluated, hooks included."""
    images = pictures()
    network = mixture(built(Plain))
    logits = network.logits(HALF, "test", "repair")
    module = network.module(HALF, "repair")
    network.set_member(0)
    with torch.no_grad():
        assert module(images.take(torch.arange(64))).numpy() == pytest.approx(logits, abs=1e-5)


def test_recomputed_statistics_are_the_default() -> None:
    """Networks with BatchNorm get the same logits with `batchnorm` and by default, to the bit; those without, with `none`."""
    network = mixture(built(Normalized))
    assert np.array_equal(network.logits(HALF, "test"), network.logits(HALF, "test", "batchnorm"))
    assert not np.array_equal(network.logits(HALF, "test"), network.logits(HALF, "test", "none"))
    network = mixture(built(Plain))
    assert np.array_equal(network.logits(HALF, "test"), network.logits(HALF, "test", "none"))


def test_networks_without_normalization_gain_from_repair() -> None:
    """The collapse of the deviations at the midpoint of independent networks is undone."""
    members = built(Plain)
    network = mixture(members)
    ends = np.mean([network.logits(point, "test").std(axis=0) for point in np.eye(2)])
    plain = network.logits(HALF, "test", "none").std(axis=0).mean()
    repaired = network.logits(HALF, "test", "repair").std(axis=0).mean()
    assert plain < 0.8 * ends
    assert abs(repaired - ends) < abs(plain - ends)


class Classifier(nn.Module):
    """A linear model."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Written(nn.Module):
    """A linear map written as a product with a parameter."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.hidden = nn.Parameter(torch.randn(6, 192))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.form == "einsum":
            y = torch.einsum("bi,oi->bo", x, self.hidden)
        elif self.form == "addmm":
            y = torch.addmm(torch.zeros(6), x, self.hidden[:].t())
        else:
            y = x @ self.hidden.T
        return self.head(torch.relu(y))


class Recurrent(nn.Module):
    """A recurrent layer over rows of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(24, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rows(x.transpose(1, 2).flatten(2))[0][:, -1])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(Written, "matmul"), "'hidden' by matmul"),
        (partial(Written, "einsum"), "'hidden' by einsum"),
        (partial(Written, "addmm"), "'hidden' by addmm"),
        (Recurrent, "'rows.weight_ih_l0' by lstm"),
    ],
)
def test_maps_that_are_not_seen(make: Callable[[], nn.Module], name: str) -> None:
    """A network with a map that would stay uncorrected is refused, with the parameter's name."""
    message = f"^correction 'repair': the network multiplies its parameter {name}, whose output cannot be corrected: write it"
    with pytest.raises(TaskFailed, match=message):
        mixture(built(make)).logits(HALF, "test", "repair")


@pytest.mark.parametrize(
    ("make", "count", "correction", "message"),
    [
        (
            Plain,
            64,
            "batchnorm",
            "correction 'batchnorm': the network has no running statistics to recompute; leave the option out",
        ),
        (
            Classifier,
            64,
            "repair",
            "correction 'repair': the network has nothing to correct: no linear layer or convolution but",
        ),
        (Plain, 1, "repair", "correction 'repair': a single training image has no statistics over images; at least 2, or"),
        (Plain, 1, {"rescale": {"before_normalization": True}}, "correction 'rescale': a single training image"),
        (Normalized, 1, "batchnorm", "correction 'batchnorm': a single training image has no statistics"),
    ],
)
def test_networks_that_cannot_be_corrected(
    make: Callable[[], nn.Module], count: int, correction: PluginChoice, message: str
) -> None:
    """The error says what the network or the data lacks, and what to choose."""
    modules = built(make)
    images = pictures(count)
    with pytest.raises(TaskFailed, match=f"^{message}"):
        mixture(modules, images).logits(HALF, "test", correction)


@pytest.mark.parametrize("correction", REPAIRS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activations_of_a_member_that_are_not_finite(correction: str, value: float) -> None:
    """The correction names the member; no mixture gets statistics that are not numbers."""
    modules = built(Plain)
    with torch.no_grad():
        modules[1].hidden.bias[0] = value  # type: ignore[index, union-attr]
    message = rf"^correction '{correction}': activations of member 1 are not finite on training images; has it diverged\?$"
    with pytest.raises(TaskFailed, match=message):
        mixture(modules).logits(HALF, "test", correction)


@pytest.mark.parametrize("correction", REPAIRS)
def test_constant_activations_of_all_members(correction: str) -> None:
    """Nothing is scaled, and the logits are finite."""
    modules = built(Plain)
    with torch.no_grad():
        for module in modules:
            for parameter in (module.conv.weight, module.unbiased.weight, module.hidden.weight):  # type: ignore[union-attr]
                parameter.zero_()
    assert np.isfinite(mixture(modules).logits(HALF, "test", correction)).all()


def test_constant_channel_is_only_shifted() -> None:
    """A channel without deviation has no scale; a member's dead unit does not blow up."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    scale, shift = Goal(Channels(one, one), mean=True, deviation=True).affine(Channels(3 * one, zero))
    assert (float(scale), float(shift)) == (1.0, -2.0)
