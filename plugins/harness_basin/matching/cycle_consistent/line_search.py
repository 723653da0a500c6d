"""Exact line search: maximize a polynomial on [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import polynomial

_NEGLIGIBLE = 1e-14
"""Leading coefficients below this share of the largest one are rounding."""


def rise(value: Callable[[float], float], start: float, slope: float, degree: int) -> np.ndarray:
    """Return the coefficients, lowest first, of the polynomial f(γ) - f(0) of a degree.

    `start` is f(0) and `slope` is f'(0). `value` is evaluated at 1 and at `degree - 2` points between 0 and 1.
    """
    coefficients = np.zeros(max(degree, 2) + 1)
    coefficients[1] = slope
    count = len(coefficients) - 2
    nodes = np.arange(1, count + 1) / count
    curved = [value(float(node)) - start - slope * node for node in nodes]
    coefficients[2:] = np.linalg.solve(nodes[:, None] ** np.arange(2, count + 2), curved)
    return coefficients


def maximize(coefficients: np.ndarray) -> float:
    """Return the point of [0, 1] where a polynomial is largest; of equal ones, the smallest.

    The coefficients start with the constant. The candidates are both ends and the stationary points.
    """
    candidates = [0.0, 1.0]
    derivative = polynomial.polyder(coefficients)
    largest = np.abs(derivative).max()
    significant = np.flatnonzero(np.abs(derivative) > _NEGLIGIBLE * largest)
    if len(significant):
        roots = polynomial.polyroots(derivative[: significant[-1] + 1])
        candidates += [float(root.real) for root in roots if 0 < root.real < 1]
    candidates.sort()
    return max(candidates, key=lambda candidate: float(polynomial.polyval(candidate, coefficients)))
