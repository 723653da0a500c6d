"""Sinkhorn's normalization and re-basin, against autograd, assignments, planted permutations and exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from basin.matching.test_descent import inner_product, symmetry_and_weights
from basin.matching.toy_networks import FACTORIES, SHAPE, built, perceptron
from harness import TaskFailed
from harness_basin.matching import derive_symmetry, permute, random_permutations
from harness_basin.matching.sinkhorn_rebasin.sinkhorn import Sinkhorn, implicit_gradient, normalize
from harness_basin.matching.sinkhorn_rebasin.sinkhorn_matching import Distance, SinkhornMatching, match_by_sinkhorn
from harness_basin.matching.sinkhorn_rebasin.sinkhorn_relaxation import Relaxation, RelaxationSettings

DEFAULTS = RelaxationSettings()


def logits(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unrolled(matrices: Tensor, rounds: int) -> Tensor:
    """Return the normalization as a chain of differentiable operations."""
    kernel = (matrices - matrices.amax((-1, -2), keepdim=True)).exp()
    for _ in range(rounds):
        kernel = kernel / kernel.sum(-1, keepdim=True)
        kernel = kernel / kernel.sum(-2, keepdim=True)
    return kernel


@pytest.mark.parametrize("size", [1, 2, 7, 40])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_rows_and_columns_sum_to_one(size: int, scale: float) -> None:
    """They do within 1e-6, at the start of the learning and after steps that sharpen the maps."""
    maps = Sinkhorn(20)(torch.eye(size, dtype=torch.float64) + scale * logits(3, size, size))
    assert bool((maps >= 0).all())
    for axis in (-1, -2):
        assert float((maps.sum(axis) - 1).abs().max()) <= 1e-6


def test_as_many_rounds_as_asked_for() -> None:
    """A matrix that is normalized already is not changed by further rounds; one that is not gets more than asked for."""
    torch.testing.assert_close(normalize(logits(5, 5), 20), unrolled(logits(5, 5), 200), atol=1e-6, rtol=0)
    torch.testing.assert_close(normalize(8 * logits(5, 5), 1), unrolled(8 * logits(5, 5), 100_000), atol=1e-6, rtol=0)


def test_limit_of_sharp_maps_is_the_assignment() -> None:
    """As the inverse temperature grows, the map becomes the permutation of the linear assignment problem."""
    orders = np.array(list(itertools.permutations(range(6))))
    for matrix in logits(20, 6, 6):
        gains = matrix.numpy()[np.arange(6), orders].sum(1)
        lead = np.sort(gains)[-1] - np.sort(gains)[-2]
        best = linear_sum_assignment(matrix.numpy(), maximize=True)[1]
        distances = []
        for inverse_temperature in (1.0, 10.0, 100.0, 1000.0):
            difference = normalize(inverse_temperature * matrix, 20)
            difference[torch.arange(6), torch.from_numpy(best)] -= 1
            distances.append(float(difference.abs().max()))
        assert distances[2] < distances[1] < distances[0]
        assert distances[3] < max(1e-5, np.exp(-900 * lead))


@pytest.mark.parametrize("size", [1, 2, 9, 30])
def test_implicit_gradient_is_that_of_the_unrolled_rounds(size: int) -> None:
    """It equals autograd's through 200 rounds to 1e-5."""
    weights = logits(4, size, size, seed=1)
    found = logits(4, size, size).requires_grad_()
    expected = found.detach().clone().requires_grad_()
    (Sinkhorn(60)(2 * found) * weights).sum().backward()
    (unrolled(2 * expected, 200) * weights).sum().backward()
    assert found.grad is not None
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-5)


def test_gradient_solves_the_system_of_all_unknowns() -> None:
    """It equals the solution of the linear system of size 2n − 1 of the source, solved as it is."""
    n = 6
    maps = normalize(logits(n, n), 100)
    gradient = logits(n, n, seed=1)
    weighted = maps * gradient
    system = torch.cat([torch.cat([torch.diag(maps.sum(1)), maps], 1), torch.cat([maps.T, torch.diag(maps.sum(0))], 1)])[
        :-1, :-1
    ]
    right = torch.cat([weighted.sum(1), weighted.sum(0)])[:-1]
    solution = torch.cat([torch.linalg.solve(system, right), torch.zeros(1, dtype=torch.float64)])
    expected = weighted - maps * (solution[:n, None] + solution[None, n:])
    found, singular = implicit_gradient(maps[None], gradient[None])
    assert singular == 0
    torch.testing.assert_close(found[0], expected)


def test_singular_system() -> None:
    """At a permutation, and where a map falls into two parts, least squares gives the gradient: zero, or that of the parts."""
    weights = logits(4, 4, seed=2)
    found, singular = implicit_gradient(torch.eye(4, dtype=torch.float64)[[2, 0, 3, 1]][None], weights[None])
    assert singular == 1
    assert float(found.abs().max()) < 1e-12
    parts = [normalize(logits(2, 2, seed=seed), 100) for seed in range(2)]
    found, singular = implicit_gradient(torch.block_diag(*parts)[None], weights[None])
    assert singular == 1
    expected = [implicit_gradient(parts[0][None], weights[None, :2, :2])[0][0]]
    expected.append(implicit_gradient(parts[1][None], weights[None, 2:, 2:])[0][0])
    torch.testing.assert_close(found[0], torch.block_diag(*expected))


def matched(a: dict[str, Tensor], b: dict[str, Tensor], symmetry: object, **changes: object) -> SinkhornMatching:
    """Return the result of Sinkhorn re-basin with the default settings, and changes."""
    arguments = {"distance": "l2", "steps": 50, "settings": DEFAULTS, "stream": 1, **changes}
    return match_by_sinkhorn(symmetry, a, b, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["perceptron", "convolutional", "torch transformer", "experts", "padded"])
@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_planted_permutation_is_recovered(name: str, distance: Distance) -> None:
    """A network matched to a permuted copy of itself becomes that copy."""
    symmetry, (state,) = symmetry_and_weights(FACTORIES[name], members=1)
    planted = permute(symmetry, random_permutations(symmetry, 5), state)
    found = matched(planted, state, symmetry, distance=distance)
    assert found.loss == 0
    recovered = permute(symmetry, found.permutations, state)
    assert all(torch.equal(recovered[key], planted[key]) for key in state)


def test_planted_permutation_with_noise() -> None:
    """The share of units that are recovered falls as noise grows, from all of them to few."""
    symmetry, (a,) = symmetry_and_weights(lambda: perceptron(192, 24, 24, 5), members=1)
    planted = random_permutations(symmetry, 5)
    generator = torch.Generator().manual_seed(0)
    shares = []
    for scale in (0.0, 0.3, 3.0, 30.0):
        reference = {}
        for key, tensor in a.items():
            reference[key] = tensor + scale * tensor.std() * torch.randn(tensor.shape, generator=generator)
        found = matched(permute(symmetry, planted, reference), a, symmetry)
        right = [(p == q).double().mean() for p, q in zip(found.permutations, planted, strict=True)]
        shares.append(float(torch.stack(right).mean()))
    assert shares[0] == shares[1] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.4


def test_against_all_permutations() -> None:
    """With two hidden layers of four units, the squared distance is at most 5 % above the lowest of all 24 × 24."""
    gaps = []
    for seed in range(4):
        networks = [built(lambda: perceptron(192, 4, 4, 3), 10 * seed + i) for i in range(2)]
        for network in networks:
            network[1].weight.data *= 0.02  # otherwise the first layer dominates
        symmetry = derive_symmetry(networks[0], torch.randn(SHAPE))
        a, b = (network.state_dict() for network in networks)
        orders = [torch.tensor(p) for p in itertools.permutations(range(4))]
        best = max(inner_product(symmetry, a, permute(symmetry, pair, b)) for pair in itertools.product(orders, orders))
        found = matched(a, b, symmetry)
        reached = inner_product(symmetry, a, permute(symmetry, found.permutations, b))
        norms = inner_product(symmetry, a, a) + inner_product(symmetry, b, b)
        gaps.append((best - reached) * 2 / (norms - 2 * best))
    assert min(gaps) == pytest.approx(0, abs=1e-12)
    assert max(gaps) < 0.05


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_losses_of_the_result(distance: Distance) -> None:
    """The losses are the mean differences of the moved weights, and the best is at most that of the identity."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["convolutional"])
    found = matched(a, b, symmetry, distance=distance, steps=20)

    def mean(moved: dict[str, Tensor]) -> float:
        names = sorted({block.parameter for block in symmetry.blocks if block.counts})
        differences = torch.cat([(a[name] - moved[name]).double().flatten() for name in names])
        return float(differences.abs().mean() if distance == "l1" else differences.square().mean())

    assert found.identity_loss == pytest.approx(mean(b), rel=1e-6)
    assert found.loss == pytest.approx(mean(permute(symmetry, found.permutations, b)), rel=1e-6)
    assert found.loss < found.identity_loss
    assert found.loss <= found.rounded_loss
    assert (len(found.trace), found.steps) == (20, 20)
    assert found.assignments == 20 * symmetry.count


def test_identity_is_kept_if_nothing_is_better() -> None:
    """A network matched to itself stays, even if the only step that is made rounds to something else."""
    symmetry, (a,) = symmetry_and_weights(FACTORIES["perceptron"], members=1)
    found = matched(a, a, symmetry, steps=1, settings=RelaxationSettings(noise=50.0))
    assert found.rounded_loss > 0
    assert found.loss == found.identity_loss == 0
    assert all(np.array_equal(p, np.arange(len(p))) for p in found.permutations)


def test_random_stream_of_the_start() -> None:
    """The result depends on the stream alone; without noise it depends on nothing."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["convolutional"])
    torch.manual_seed(0)
    first = matched(a, b, symmetry, steps=3)
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    assert matched(a, b, symmetry, steps=3).trace == first.trace
    assert torch.equal(torch.get_rng_state(), generator)
    assert matched(a, b, symmetry, steps=3, stream=2).trace != first.trace
    plain = RelaxationSettings(noise=0.0)
    assert (
        matched(a, b, symmetry, steps=3, settings=plain).trace
        == matched(a, b, symmetry, steps=3, stream=2, settings=plain).trace
    )


def test_steps_that_diverge() -> None:
    """A learning rate that makes raw matrices infinite fails the task, and the message says what to lower."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["perceptron"])
    with pytest.raises(TaskFailed, match=r"^sinkhorn: .* step \d+.*learning_rate.* \(?1e\+300\)?,? too large\?$"):
        matched(a, b, symmetry, settings=RelaxationSettings(learning_rate=1e300))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_diverged_member(value: float) -> None:
    """Weights that are not finite fail the task before the first step."""
    symmetry, (a, b) = symmetry_and_weights(FACTORIES["perceptron"])
    with pytest.raises(TaskFailed, match=r"^sinkhorn: the loss at the identity is (nan|inf); have the members diverged\?$"):
        matched(a, b | {"1.bias": torch.full((20,), value)}, symmetry)


def test_network_without_hidden_units() -> None:
    """There is nothing to learn."""
    symmetry, (a, b) = symmetry_and_weights(lambda: perceptron(192, 5))
    assert matched(a, b, symmetry) == SinkhornMatching.unmoved(0.0)


def test_continued_relaxation() -> None:
    """Restored from its state, it makes the same steps, to the bit."""
    symmetry, _ = symmetry_and_weights(FACTORIES["torch transformer"], members=1)

    def steps(relaxation: Relaxation, count: int) -> None:
        for number in range(count):
            loss = sum((maps.square().sum() for maps in relaxation.maps()), torch.zeros(()))
            relaxation.step(float(loss.detach()), loss, number)
            relaxation.offer(relaxation.rounded(), 1 / (number + 2))

    whole = Relaxation(symmetry, DEFAULTS, 1, 1.0)
    steps(whole, 2)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    rest = Relaxation(symmetry, DEFAULTS, 9, 1.0)
    rest.restore(state, whole.best_loss, whole.assignments)
    for relaxation in (whole, rest):
        steps(relaxation, 3)
    assert rest.assignments == whole.assignments == 5 * symmetry.count
    assert all(torch.equal(x, rest.state()[name]) for name, x in whole.state().items())
