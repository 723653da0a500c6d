"""Similarities of units from activations, and the matching that they give: planted permutations, closed forms, brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from basin.matching.toy_networks import FACTORIES, SHAPE, batchnorm_resnet, built, perceptron
from harness import TaskFailed
from harness_basin.matching import Permutations, Symmetry, identity, permute, random_permutations
from harness_basin.matching.activation.activations import Pairs, unit_similarities
from harness_basin.matching.activation.features import FeatureMap, find_features
from harness_basin.matching.activation.similarity_matching import SimilarityMatching, match_by_similarity
from harness_basin.matching.symmetry import Group
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

StateDict = dict[str, Tensor]


def vit() -> nn.Module:
    """Return a ViT with two heads of eight dimensions."""
    return ViTNetwork((3, 8, 8), 4, patch=4, width=16, mlp=12, depth=2, heads=2, dropout=0.0, attention_dropout=0.0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: FACTORIES[name] for name in ("convolutional", "grouped", "transformer", "torch transformer", "dense")},
    "batchnorm resnet": batchnorm_resnet,
    "resnet20": lambda: ResNet20Network(8, (3, 8, 8), 10),
    "vit": vit,
}


def batches(count: int = 4, size: int = 32, seed: int = 0) -> list[Tensor]:
    """Return batches of random images."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, size, *SHAPE[1:], generator=generator))


@torch.no_grad()
def calibrated(name: str, seed: int = 0) -> nn.Module:
    """Return a network whose running statistics are those of images, so that units live."""
    network = built(NETWORKS[name], seed).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    for images in batches():
        network(images)
    return network.eval()


def matched(network: nn.Module, states: Sequence[StateDict], **options: object) -> tuple[FeatureMap, SimilarityMatching]:
    """Return the features of a network, and the matching of weights by them."""
    features = find_features(network, batches()[0])
    pairs = unit_similarities(network, states, features, batches())
    return features, match_by_similarity(features.symmetry, pairs, len(states), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_stay(name: str) -> None:
    """Networks with equal weights are matched by the identity, and every unit by its similarity to itself."""
    network = calibrated(name)
    state = network.state_dict()
    features, found = matched(network, [state, state, state])
    for permutations in found.permutations:
        assert all(torch.equal(p, q) for p, q in zip(permutations, identity(features.symmetry), strict=True))
    assert found.objective == found.identity_objective > 0


@pytest.mark.parametrize("members", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_planted_permutations(name: str, members: int) -> None:
    """Permuted copies become equal, and the first one is not moved."""
    network = calibrated(name)
    state = network.state_dict()
    symmetry = find_features(network, batches()[0]).symmetry
    copies = [state] + [permute(symmetry, random_permutations(symmetry, seed), state) for seed in range(1, members)]
    _, found = matched(network, copies)
    for permutations, given in zip(found.permutations, copies, strict=True):
        aligned = permute(symmetry, permutations, given)
        assert all(torch.equal(aligned[key], state[key]) for key in state)


def test_planted_permutation_with_noise() -> None:
    """The share of recovered units falls with the noise, from all of them to chance."""
    network = built(NETWORKS["resnet20"])
    state = network.state_dict()
    symmetry = find_features(network, batches()[0]).symmetry
    planted = random_permutations(symmetry, 5)
    goal = [permutation.argsort() for permutation in planted]
    shares = []
    for noise in (0.0, 0.1, 0.3, 3.0):
        generator = torch.Generator().manual_seed(1)
        moved = permute(symmetry, planted, state)
        for tensor in moved.values():
            tensor += noise * tensor.std() * torch.randn(tensor.shape, generator=generator)
        _, found = matched(network, [state, moved])
        right = [float((a == b).float().mean()) for a, b in zip(found.permutations[1], goal, strict=True)]
        shares.append(sum(right) / len(right))
    assert shares[0] == 1.0
    assert shares[1] > 0.9
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.3


@pytest.mark.parametrize("similarity", ["pearson", "uncentered"])
def test_linear_layer_with_white_inputs(similarity: str) -> None:
    """The mean product of two units is that of their weights, and the correlation is the cosine, up to sampling."""
    networks = [built(lambda: nn.Sequential(nn.Linear(12, 6, bias=False), nn.Linear(6, 4)), seed) for seed in range(2)]
    images = torch.randn(8, 5000, 12, generator=torch.Generator().manual_seed(0))
    features = find_features(networks[0], images[0])
    states = [network.state_dict() for network in networks]
    pairs = unit_similarities(networks[0], states, features, images, similarity)  # type: ignore[arg-type]
    a, b = (state["0.weight"].double() for state in states)
    expected = a @ b.T
    if similarity == "pearson":
        expected = expected / torch.outer(a.norm(dim=1), b.norm(dim=1))
    torch.testing.assert_close(torch.from_numpy(pairs[0, 1][0]), expected, atol=0.02, rtol=0.0)


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_similarities_against_correlations_of_all_activations(name: str) -> None:
    """Sums over batches give the correlations of all activations at once; a pair given in reverse gives the transpose."""
    networks = [built(NETWORKS[name], seed) for seed in range(2)]
    states = [network.state_dict() for network in networks]
    features = find_features(networks[0], batches()[0])
    several = unit_similarities(networks[0], states, features, batches())
    once = unit_similarities(networks[0], states, features, [torch.cat(batches())])
    reverse = unit_similarities(networks[0], states[::-1], features, batches())
    for group, gram in several[0, 1].items():
        np.testing.assert_allclose(gram, once[0, 1][group], atol=1e-5)
        np.testing.assert_allclose(gram, reverse[0, 1][group].T, atol=1e-12)
        places = sum(len(one.places) for one in features.features if one.group == group)
        assert np.abs(gram).max() <= places


def test_negative_correlation_is_no_match() -> None:
    """A unit is not matched to its negative, whose correlation is −1."""
    pairs: Pairs = {(0, 1): {0: np.array([[0.1, -1.0], [-1.0, 0.1]])}}
    found = match_by_similarity(one_group(2), pairs, 2)
    assert found.permutations[1][0].tolist() == [0, 1]


def one_group(size: int) -> Symmetry:
    """Return a symmetry of one group."""
    return Symmetry((Group("units", size),), (), {})


def several_groups(sizes: Sequence[int]) -> Symmetry:
    """Return a symmetry of independent groups."""
    return Symmetry(tuple(Group(f"units {k}", size) for k, size in enumerate(sizes)), (), {})


def random_pairs(sizes: Sequence[int], networks: int, seed: int) -> Pairs:
    """Return random similarities."""
    generator = np.random.default_rng(seed)
    found: Pairs = {}
    for pair in itertools.combinations(range(networks), 2):
        found[pair] = {group: generator.uniform(-1, 1, (size, size)) for group, size in enumerate(sizes)}
    return found


def best_by_brute_force(pairs: Pairs, group: int, size: int) -> float:
    """Return the largest Σ_{i<j} tr(P_iᵀ C_ij P_j) over all permutations of three networks, the first one fixed."""
    first = np.arange(size)
    best = -np.inf
    for second in map(list, itertools.permutations(range(size))):
        for third in map(list, itertools.permutations(range(size))):
            value = pairs[0, 1][group][first, second].sum() + pairs[0, 2][group][first, third].sum()
            best = max(best, value + pairs[1, 2][group][second, third].sum())
    return float(best)


def test_three_networks_against_brute_force() -> None:
    """With two groups of three and four units, the optimum is reached nearly always, and missed by little."""
    gaps = []
    for seed in range(20):
        pairs = random_pairs((3, 4), 3, seed)
        found = match_by_similarity(several_groups((3, 4)), pairs, 3)
        optimum = best_by_brute_force(pairs, 0, 3) + best_by_brute_force(pairs, 1, 4)
        assert found.identity_objective <= found.objective <= optimum + 1e-9
        gaps.append((optimum - found.objective) / optimum)
    assert np.mean(np.array(gaps) < 1e-9) >= 0.6
    assert max(gaps) < 0.15


def test_two_networks_take_one_assignment_per_group() -> None:
    """The optimum of two networks needs no sweeps."""
    pairs = random_pairs((5, 6), 2, 0)
    found = match_by_similarity(several_groups((5, 6)), pairs, 2)
    assert found.assignments == 2


def test_assignments_of_nested_groups() -> None:
    """Two heads and their two inner groups take one assignment, and two for every pair of heads."""
    networks = [built(vit, seed) for seed in range(2)]
    _, found = matched(networks[0], [network.state_dict() for network in networks])
    streams_and_units = 1 + 2  # the residual stream, and the units of two MLPs
    assert found.assignments == streams_and_units + 2 * (1 + 2**2 * 2)
    assert found.objective > found.identity_objective


def test_heads_of_two_networks_against_brute_force() -> None:
    """Heads with the dimensions in them have the optimum over all permutations of both."""
    symmetry = Symmetry((Group("heads", 2), Group("dims", 3, (0,))), (), {})
    gram = np.random.default_rng(2).uniform(-1, 1, (6, 6))
    found = match_by_similarity(symmetry, {(0, 1): {1: gram}}, 2)
    best = -np.inf
    for heads in itertools.permutations(range(2)):
        value = 0.0
        for position, head in enumerate(heads):
            part = gram[3 * position : 3 * position + 3, 3 * head : 3 * head + 3]
            value += max(part[np.arange(3), list(dims)].sum() for dims in itertools.permutations(range(3)))
        best = max(best, value)
    assert found.objective == pytest.approx(best, abs=1e-12)


def test_joint_matching_against_matching_to_the_first() -> None:
    """Over all pairs, joint matching has the larger objective, and it does not depend on how units were numbered."""
    networks = [built(NETWORKS["convolutional"], seed) for seed in range(4)]
    states = [network.state_dict() for network in networks]
    features, joint = matched(networks[0], states)
    symmetry = features.symmetry
    star: list[Permutations] = [identity(symmetry)]
    for state in states[1:]:
        star.append(matched(networks[0], [states[0], state])[1].permutations[1])
    aligned = [permute(symmetry, own, state) for own, state in zip(star, states, strict=True)]
    assert joint.objective > matched(networks[0], aligned)[1].identity_objective
    renumbered = [permute(symmetry, random_permutations(symmetry, k), state) for k, state in enumerate(states)]
    assert matched(networks[0], renumbered)[1].objective == pytest.approx(joint.objective, rel=1e-4)


def test_unmoved_groups() -> None:
    """Groups that may not move keep their order, and others move."""
    networks = [built(NETWORKS["resnet20"], seed) for seed in range(2)]
    features, found = matched(networks[0], [network.state_dict() for network in networks], unmoved={0})
    kept = identity(features.symmetry)
    assert torch.equal(found.permutations[1][0], kept[0])
    assert not torch.equal(found.permutations[1][1], kept[1])


def test_dead_and_constant_units() -> None:
    """They are matched among themselves, dead ones by what they were before the ReLU, and living units as always."""
    network = built(lambda: perceptron(192, 8, 5))
    state = network.state_dict()
    state["1.bias"][:3] = -100.0  # dead
    state["1.weight"][3] = 0.0
    state["1.bias"][3] = 0.7  # constant
    features = find_features(network, batches()[0])
    moved = permute(features.symmetry, random_permutations(features.symmetry, 2), state)
    gram = unit_similarities(network, [state, moved], features, batches())[0, 1][0]
    assert np.isfinite(gram).all()
    assert np.abs(gram[:4]).max() <= 1e-6
    found = match_by_similarity(features.symmetry, {(0, 1): {0: gram}}, 2)
    aligned = permute(features.symmetry, found.permutations[1], moved)
    assert all(torch.equal(aligned[key], state[key]) for key in state)


def test_units_of_very_different_deviations() -> None:
    """A weak unit that is correlated with a strong one is most similar to itself, and correlations are damped for weak ones."""
    network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 3))
    state = network.state_dict()
    state["0.weight"][:, 0] = torch.tensor([1.0, 0.01])
    images = torch.randn(4, 1000, 1, generator=torch.Generator().manual_seed(0))
    images = images / images.std(correction=0)
    moved = {"0.weight": state["0.weight"].flip(0), "1.weight": state["1.weight"].flip(1), "1.bias": state["1.bias"]}
    features = find_features(network, images[0])
    pairs = unit_similarities(network, [state, moved], features, images)
    strong_weak = 0.01 / ((1 + 1e-4) * 2e-4) ** 0.5
    expected = np.array([[strong_weak, 1 / (1 + 1e-4)], [0.5, strong_weak]])
    np.testing.assert_allclose(pairs[0, 1][0], expected, rtol=1e-4)
    assert match_by_similarity(features.symmetry, pairs, 2).permutations[1][0].tolist() == [1, 0]


class Caching(nn.Module):
    """Stores a product of its weights in its first run, and makes a new array in every run."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(192, 6)
        self.head = nn.Linear(6, 4)
        self.stored: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.stored is None:
            self.stored = 2 * self.head.weight
        ramp = torch.arange(192).to(x.dtype) / 192
        return torch.relu(self.hidden(x.flatten(1) + ramp)) @ self.stored.T


def test_network_that_stores_values_of_its_first_run() -> None:
    """Every member stores those of its own weights, and is read from its second run on."""
    network = built(Caching)
    state = network.state_dict()
    symmetry = find_features(network, batches()[0]).symmetry
    moved = permute(symmetry, random_permutations(symmetry, 1), state)
    _, found = matched(network, [state, moved])
    aligned = permute(symmetry, found.permutations[1], moved)
    assert all(torch.equal(aligned[key], state[key]) for key in state)


def test_network_whose_activations_are_constant() -> None:
    """Nothing is permuted."""
    network = built(lambda: perceptron(192, 8, 5))
    states = [{key: torch.zeros_like(tensor) for key, tensor in network.state_dict().items()} for _ in range(2)]
    _, found = matched(network, states)
    assert found.permutations[1][0].tolist() == list(range(8))
    assert found.objective == found.identity_objective == 0.0


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_activations_that_are_not_finite(value: float, word: str) -> None:
    """The error names the place and the member."""
    network = built(lambda: perceptron(192, 8, 5))
    state = network.state_dict()
    wrong = dict(state) | {"1.bias": torch.full((8,), value)}
    message = rf"^activations: 1 \(aten\.addmm\.default\): activations of member 1 are {word}; has it diverged\? leave it out"
    with pytest.raises(TaskFailed, match=message):
        matched(network, [state, wrong])


def test_one_network() -> None:
    """There is nothing to match."""
    network = built(lambda: perceptron(192, 8, 5))
    _, found = matched(network, [network.state_dict()])
    assert (found.objective, found.assignments, len(found.permutations)) == (0.0, 0, 1)
