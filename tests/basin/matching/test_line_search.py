"""The exact line search: polynomials from values, and their maxima on [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import polynomial

from harness_basin.matching.cycle_consistent.line_search import maximize, rise


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 6, 8])
def test_polynomial_from_values(degree: int) -> None:
    """The value and slope at 0, and values at as many points as are needed, give the polynomial."""
    coefficients = np.random.default_rng(degree).normal(size=degree + 1)
    evaluated = []

    def value(point: float) -> float:
        evaluated.append(point)
        return float(polynomial.polyval(point, coefficients))

    found = rise(value, coefficients[0], coefficients[1], degree)
    assert np.allclose(found[: degree + 1], [0.0, *coefficients[1:]], atol=1e-9)
    assert len(evaluated) == max(1, degree - 1)


@pytest.mark.parametrize("seed", range(20))
def test_maximum_of_random_polynomials(seed: int) -> None:
    """No point of a fine grid has a larger value."""
    generator = np.random.default_rng(seed)
    coefficients = generator.normal(size=int(generator.integers(2, 8)))
    best = maximize(coefficients)
    assert 0 <= best <= 1
    grid = polynomial.polyval(np.linspace(0, 1, 10001), coefficients)
    assert polynomial.polyval(best, coefficients) >= grid.max() - 1e-12


@pytest.mark.parametrize(
    ("coefficients", "expected"),
    [
        ([0.0, 0.0, 0.0], 0.0),
        ([0.0, 1.0, 0.0], 1.0),
        ([0.0, -1.0, 0.0], 0.0),
        ([0.0, 1.0, -1.0], 0.5),
        ([0.0, -1.0, 1.0], 0.0),
        ([0.0, 2e-9, -4e-9, 0.0, 1e-24], 0.25),
        ([1e3, 1.0, -2.0], 0.25),
    ],
    ids=str,
)
def test_known_maxima(coefficients: list[float], expected: float) -> None:
    """Of equal maxima, the smallest is returned; rounding in a leading coefficient moves nothing."""
    assert maximize(np.array(coefficients)) == pytest.approx(expected, abs=1e-12)
