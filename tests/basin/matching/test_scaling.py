"""The best factor of a unit, the descent over groups of scales, and its alternation with matching."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basin.matching.toy_networks import FACTORIES, SHAPE, built, grouped, perceptron
from harness import TaskFailed
from harness_basin.matching import (
    LinearGroup,
    Symmetry,
    act,
    align_scales,
    derive_linear_groups,
    derive_symmetry,
    functional_difference,
    match_scales,
    permute,
    random_elements,
    random_permutations,
)
from harness_basin.matching.scales.scale_steps import Coefficients, best_factors
from harness_basin.matching.scales.scaled_matching import squared_distance
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

State = dict[str, Tensor]

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: perceptron(192, 48, 40, 32, 5),
    "resnet20": lambda: ResNet20Network(16, (3, 8, 8), 10),
    "vit": lambda: ViTNetwork((3, 8, 8), 10, patch=4, width=32, mlp=48, depth=2, heads=4, dropout=0.0, attention_dropout=0.0),
    "grouped": grouped,
}


class Coupled(nn.Module):
    """A linear residual branch: a weight whose rows and columns belong to the same units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(192, 24)
        self.branch = nn.Linear(24, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x.flatten(1)))
        return self.head(F.relu(x + self.branch(x)))


class Problem:
    """A network with its symmetries, and weights in float64."""

    def __init__(self, factory: Callable[[], nn.Module]) -> None:
        self.network = built(factory)
        self.symmetry: Symmetry = derive_symmetry(self.network, torch.randn(SHAPE))
        self.groups: tuple[LinearGroup, ...] = derive_linear_groups(self.network, torch.randn(SHAPE), self.symmetry).of_kind(
            "scale"
        )
        self.counted = set(dict(self.network.named_parameters()))
        self.state = double(self.network.state_dict())
        self.other = double(built(factory, seed=1).state_dict())

    def scaled(self, state: State, seed: int = 3, spread: float = 1.0) -> State:
        """Return weights moved by random scales."""
        return dict(act(self.groups, random_elements(self.groups, seed, spread=spread), state))

    def distance(self, state: State) -> float:
        """Return the squared distance to the reference."""
        return squared_distance(self.state, state, self.counted)


def double(state: State) -> State:
    """Return weights in float64."""
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def largest_error(found: State, expected: State) -> float:
    """Return the largest difference of a tensor, relative to its largest value."""
    return max(float((found[name] - expected[name]).abs().max() / expected[name].abs().max()) for name in expected)


def falls(trace: tuple[float, ...]) -> bool:
    """Return whether no number is larger than the one before."""
    return all(after <= before for before, after in itertools.pairwise(trace))


def random_coefficients(number: int, seed: int) -> Coefficients:
    """Return coefficients of random weights: sums over three direct and three inverse weights of each unit."""
    x, y, u, v = np.random.default_rng(seed).normal(size=(4, number, 3)) * np.exp(
        np.random.default_rng(seed + 1).normal(size=(4, number, 1))
    )
    return Coefficients((y * y).sum(1), (x * y).sum(1), (v * v).sum(1), (u * v).sum(1))


def test_best_factor_against_a_fine_grid() -> None:
    """No factor of 20,001 between e⁻⁸ and e⁸ is better than the exact one; where that is 1, none is better than 1."""
    given = random_coefficients(200, seed=0)
    values = given.change(best_factors(given))
    for t in np.exp(np.linspace(-8, 8, 20001)):
        assert (values <= given.change(np.full(200, t)) + 1e-12 * (given.a + given.c)).all()


def test_change_is_that_of_the_squared_distance() -> None:
    """The formula without cancellation equals the distance at t minus the distance at 1."""
    x, y, u, v = np.random.default_rng(0).normal(size=(4, 5))
    given = Coefficients(*(np.array([value]) for value in (y @ y, x @ y, v @ v, u @ v)))
    for t in (0.3, 1.0, 2.5):
        expected = ((x - t * y) ** 2).sum() + ((u - v / t) ** 2).sum() - ((x - y) ** 2).sum() - ((u - v) ** 2).sum()
        assert given.change(np.array([t]))[0] == pytest.approx(expected, abs=1e-12)


def test_several_positive_stationary_points() -> None:
    """Of three positive stationary points, the global minimum is chosen, on either side of the maximum."""
    for b, e, expected in ((10.0, 8.0, 9.992), (8.0, 10.0, 1 / 9.992)):
        given = Coefficients(*(np.array([value]) for value in (1.0, b, 1.0, e)))
        roots = np.roots([1, -b, 0, e, -1])
        assert sum(abs(root.imag) < 1e-12 and root.real > 0 for root in roots) == 3
        assert best_factors(given)[0] == pytest.approx(expected, rel=1e-2)


def test_units_in_one_kind_of_place_and_dead_units() -> None:
    """With direct places only the factor is B / A, with inverse ones only C / E; without a minimum it is 1."""
    a = np.array([2.0, 0.0, 2.0, 0.0, 0.0])
    b = np.array([3.0, 0.0, -3.0, 0.0, 0.0])
    c = np.array([0.0, 2.0, 0.0, 2.0, 0.0])
    e = np.array([0.0, 3.0, 0.0, -3.0, 0.0])
    assert best_factors(Coefficients(a, b, c, e)).tolist() == pytest.approx([1.5, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize("name", NETWORKS)
def test_planted_scales_are_recovered(name: str) -> None:
    """For θ_2 = g θ_1, the factors are those of g⁻¹ to 1e-9, and the distance is 0."""
    problem = Problem(NETWORKS[name])
    moved = problem.scaled(problem.state)
    found = align_scales(problem.groups, problem.state, moved, problem.counted)
    assert largest_error(dict(act(problem.groups, found.elements, moved)), problem.state) <= 1e-9
    expected = random_elements(problem.groups, 3)
    for group, element, planted in zip(problem.groups, found.elements, expected, strict=True):
        effective = element * planted
        assert torch.allclose(effective, torch.ones(group.shape, dtype=torch.float64), rtol=1e-8)
    assert falls(found.trace)


@pytest.mark.parametrize("name", NETWORKS)
def test_distance_of_other_networks_falls(name: str) -> None:
    """The trace never rises, ends at the distance of the moved weights, and the function stays."""
    problem = Problem(NETWORKS[name])
    found = align_scales(problem.groups, problem.state, problem.other, problem.counted)
    moved = dict(act(problem.groups, found.elements, problem.other))
    assert falls(found.trace)
    assert found.trace[-1] < found.trace[0]
    assert problem.distance(problem.other) - problem.distance(moved) == pytest.approx(
        found.trace[0] - found.trace[-1], rel=1e-9
    )
    assert functional_difference(problem.network, problem.other, moved, torch.randn(SHAPE)) <= 1e-9


def test_result_is_a_minimum() -> None:
    """No single factor can be changed by 1 % or 1e-4 without a larger distance."""
    problem = Problem(NETWORKS["vit"])
    found = align_scales(problem.groups, problem.state, problem.other, problem.counted)
    least = problem.distance(dict(act(problem.groups, found.elements, problem.other)))
    for number, element in enumerate(found.elements):
        for step in (1.01, 1 / 1.01, 1.0001, 1 / 1.0001):
            changed = element.clone()
            changed.view(-1)[element.numel() // 2] *= step
            elements = (*found.elements[:number], changed, *found.elements[number + 1 :])
            assert problem.distance(dict(act(problem.groups, elements, problem.other))) > least


def test_rows_and_columns_of_the_same_units() -> None:
    """Where a group multiplies rows and divides columns of one weight, the trace is exact, and planted scales are found."""
    problem = Problem(Coupled)
    assert any(str(place) == "branch.weight[1]⁻¹" for place in problem.groups[0].places)
    found = align_scales(problem.groups, problem.state, problem.other, problem.counted)
    moved = dict(act(problem.groups, found.elements, problem.other))
    assert falls(found.trace)
    assert problem.distance(problem.other) - problem.distance(moved) == pytest.approx(
        found.trace[0] - found.trace[-1], rel=1e-9
    )
    planted = problem.scaled(problem.state)
    back = align_scales(problem.groups, problem.state, planted, problem.counted)
    assert largest_error(dict(act(problem.groups, back.elements, planted)), problem.state) <= 1e-9


@pytest.mark.parametrize("name", ["perceptron", "resnet20", "vit"])
def test_planted_permutations_and_scales_are_recovered(name: str) -> None:
    """For θ_2 = π g θ_1 in a wide network, both are found: the weights are those of θ_1 to 1e-9."""
    problem = Problem(NETWORKS[name])
    moved = dict(permute(problem.symmetry, random_permutations(problem.symmetry, 5), problem.scaled(problem.state)))
    found = match_scales(problem.symmetry, problem.groups, problem.state, moved, problem.counted, stream=1, permutations=True)
    assert largest_error(dict(found.state), problem.state) <= 1e-9
    assert found.distance <= 1e-9 * found.distance_before
    assert found.assignments > 0
    assert all(falls(trace) for trace in found.trace)


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_planted_elements_under_noise(noise: float) -> None:
    """With noise on the planted weights, nearly all units are found, and the distance is at most that of the noise."""
    problem = Problem(NETWORKS["perceptron"])
    noisy = {}
    for name, tensor in problem.state.items():
        noisy[name] = tensor + noise * tensor.std() * torch.randn_like(tensor)
    moved = dict(permute(problem.symmetry, random_permutations(problem.symmetry, 5), problem.scaled(noisy)))
    found = match_scales(problem.symmetry, problem.groups, problem.state, moved, problem.counted, stream=1, permutations=True)
    assert found.distance**2 <= 1.001 * problem.distance(noisy)


def test_permutations_lower_the_distance_further() -> None:
    """For other networks, the distance with permutations is below that of scales alone; the function stays."""
    problem = Problem(NETWORKS["resnet20"])
    arguments = (problem.symmetry, problem.groups, problem.state, problem.other, problem.counted)
    alone = match_scales(*arguments, stream=1)
    together = match_scales(*arguments, stream=1, permutations=True)
    assert together.distance < alone.distance < alone.distance_before
    assert together.distance**2 == pytest.approx(min(trace[-1] for trace in together.trace), rel=1e-9)
    assert alone.assignments == 0
    assert all(falls(trace) for trace in (*alone.trace, *together.trace))
    difference = functional_difference(problem.network, problem.other, together.state, torch.randn(SHAPE))
    assert difference <= 1e-9


def test_same_stream_same_result() -> None:
    """The result depends on the stream and the weights only."""
    problem = Problem(NETWORKS["vit"])
    arguments = (problem.symmetry, problem.groups, problem.state, problem.other, problem.counted)
    first = match_scales(*arguments, stream=1, permutations=True)
    second = match_scales(*arguments, stream=1, permutations=True)
    assert all(torch.equal(first.state[name], second.state[name]) for name in problem.state)


def test_network_without_scales() -> None:
    """Without groups of scales, the weights do not change."""
    problem = Problem(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 12), nn.GELU(), nn.Linear(12, 5)))
    assert problem.groups == ()
    found = match_scales(problem.symmetry, (), problem.state, problem.other, problem.counted, stream=0)
    assert all(torch.equal(found.state[name], problem.other[name]) for name in problem.state)
    assert found.distance == found.distance_before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float) -> None:
    """Diverged weights fail in one line."""
    problem = Problem(NETWORKS["perceptron"])
    broken = {**problem.other, "1.bias": torch.full_like(problem.other["1.bias"], value)}
    with pytest.raises(
        TaskFailed, match=r"^scales: the squared distance of the weights is (nan|inf); have the members diverged"
    ):
        align_scales(problem.groups, problem.state, broken, problem.counted)


def test_tied_and_concatenated_parameters() -> None:
    """Blocks of parts of a parameter, and both names of a tied one, are moved as the function requires."""
    for name in ("dense", "padded", "experts"):
        problem = Problem(FACTORIES[name])
        found = match_scales(problem.symmetry, problem.groups, problem.state, problem.other, problem.counted, stream=0)
        difference = functional_difference(problem.network, problem.other, found.state, torch.randn(SHAPE))
        assert difference <= 1e-9
