"""Linear assignment: potentials and warm starts save time and do not change the result."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harness_basin.matching.coordinate_descent.assignment import LARGE, Assigner, _refined, assign

RANDOM = np.random.default_rng(0)


def skewed(n: int) -> np.ndarray:
    """Return a Gram matrix of units with very different norms: many rows prefer the same columns."""
    a = RANDOM.normal(size=(n, 40)) * RANDOM.exponential(size=(n, 1))
    b = RANDOM.normal(size=(n, 40)) * RANDOM.exponential(size=(n, 1))
    return a @ b.T


@pytest.mark.parametrize("n", [1, 7, LARGE - 1, LARGE, LARGE + 60])
def test_skewed_gains(n: int) -> None:
    """The total gain equals that of scipy's solver on the same matrix."""
    gains = skewed(n)
    found = assign(gains)
    assert sorted(found) == list(range(n))
    best = gains[linear_sum_assignment(gains, maximize=True)].sum()
    assert gains[np.arange(n), found].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("gains", [np.zeros((LARGE, LARGE)), 1e30 * np.eye(LARGE), -np.ones((3, 3))])
def test_degenerate_gains(gains: np.ndarray) -> None:
    """Ties and large numbers give a permutation."""
    assert sorted(assign(gains)) == list(range(len(gains)))


def test_planted_permutation() -> None:
    """If every row has its own largest column, the result is that column."""
    planted = RANDOM.permutation(LARGE)
    gains = RANDOM.normal(size=(LARGE, LARGE))
    gains[np.arange(LARGE), planted] += 20
    assert (assign(gains) == planted).all()


@pytest.mark.parametrize("n", [40, LARGE + 8])
@pytest.mark.parametrize("drift", [0.0, 0.02, 0.3, 3.0])
def test_gains_that_drift_between_calls(n: int, drift: float) -> None:
    """Every assignment is optimal after small and large changes of the gains."""
    rng = np.random.default_rng(n)
    gains = rng.normal(size=(n, n)) + 2 * np.eye(n)[rng.permutation(n)]
    assigner = Assigner()
    for _ in range(6):
        assert (assigner(gains) == linear_sum_assignment(gains, maximize=True)[1]).all()
        gains = gains + drift * rng.normal(size=(n, n))


def test_refined_potentials_are_closer_to_the_dual_optimum() -> None:
    """The rows' preference for columns other than their own, 0 at the optimum, is halved by every refinement."""
    gains = skewed(LARGE)
    best = linear_sum_assignment(gains, maximize=True)[1]

    def preference(potentials: np.ndarray) -> float:
        reduced = gains - potentials
        return float((reduced.max(1) - reduced[np.arange(LARGE), best]).sum())

    potentials = np.zeros(LARGE)
    for _ in range(3):
        before = preference(potentials)
        potentials = _refined(potentials, gains, best)
        assert preference(potentials) < 0.5 * before
