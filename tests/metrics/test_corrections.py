"""Corrections of mixtures: goals, identity at members, folding, which layers are corrected, and what cannot be corrected."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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
from harness_metrics.corrections import Repair
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


NETWORKS: dict[str, Callable[[], nn.Module]] = {
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
@pytest.mark.parametrize("name", ["plain", "resnet20", "vit"])
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


@pytest.mark.parametrize("name", ["plain", "resnet20", "vit"])
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


def test_constant_channel_is_only_shifted() -> None:
    """A channel without deviation has no scale; a member's dead unit does not blow up."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    scale, shift = Goal(Channels(one, one), mean=True, deviation=True).affine(Channels(3 * one, zero))
    assert (float(scale), float(shift)) == (1.0, -2.0)
