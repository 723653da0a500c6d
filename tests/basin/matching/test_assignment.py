"""The assignment is the best one, whatever is done to find it sooner."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harness_basin.matching.assignment import LARGE, Assigner, _refined, assign

RANDOM = np.random.default_rng(0)


def skewed(n: int) -> np.ndarray:
    """Return a Gram matrix of units whose norms differ much: many rows like the same columns."""
    a, b = (RANDOM.normal(size=(n, 40)) * RANDOM.exponential(size=(n, 1)) for _ in range(2))
    return a @ b.T


@pytest.mark.parametrize("n", [1, 7, LARGE - 1, LARGE, LARGE + 60])
def test_against_scipy(n: int) -> None:
    """As much is gained as scipy gains from the matrix as it is."""
    gains = skewed(n)
    found = assign(gains)
    assert sorted(found) == list(range(n))
    best = gains[linear_sum_assignment(gains, maximize=True)].sum()
    assert gains[np.arange(n), found].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("gains", [np.zeros((LARGE, LARGE)), 1e30 * np.eye(LARGE), -np.ones((3, 3))])
def test_degenerate_gains(gains: np.ndarray) -> None:
    """Ties and large numbers give a permutation all the same."""
    assert sorted(assign(gains)) == list(range(len(gains)))


def test_planted_permutation() -> None:
    """Where every row has a favorite of its own, that is the answer."""
    planted = RANDOM.permutation(LARGE)
    gains = RANDOM.normal(size=(LARGE, LARGE))
    gains[np.arange(LARGE), planted] += 20
    assert (assign(gains) == planted).all()


@pytest.mark.parametrize("n", [40, LARGE + 8])
@pytest.mark.parametrize("drift", [0.0, 0.02, 0.3, 3.0])
def test_what_is_known_of_the_last_gains_changes_nothing(n: int, drift: float) -> None:
    """Gains that drift, a little or beyond recognition, have the best assignment every time."""
    rng = np.random.default_rng(n)
    gains, assigner = rng.normal(size=(n, n)) + 2 * np.eye(n)[rng.permutation(n)], Assigner()
    for _ in range(6):
        assert (assigner(gains) == linear_sum_assignment(gains, maximize=True)[1]).all()
        gains = gains + drift * rng.normal(size=(n, n))


def test_refined_potentials_are_nearer_to_the_dual_optimum() -> None:
    """At the optimum no row prefers another column than its own, potentials taken off; what they prefer shrinks."""
    gains = skewed(LARGE)
    best = linear_sum_assignment(gains, maximize=True)[1]

    def preferred(potentials: np.ndarray) -> float:
        priced = gains - potentials
        return float((priced.max(1) - priced[np.arange(LARGE), best]).sum())

    potentials = np.zeros(LARGE)
    for _ in range(3):
        before, potentials = preferred(potentials), _refined(potentials, gains, best)
        assert preferred(potentials) < 0.5 * before
