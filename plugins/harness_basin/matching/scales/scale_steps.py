"""The best positive factor of a unit while all other factors are held fixed, exactly.

If a unit's weights are multiplied by t in some places (y) and divided by t in others (v), the squared distance to the
reference (x, u) changes by f(t) = A (t² - 1) - 2 B (t - 1) + C (t⁻² - 1) - 2 E (t⁻¹ - 1), where A = Σ y², B = Σ x y, C = Σ v²
and E = Σ u v. The derivative vanishes where A t⁴ - B t³ + E t - C = 0. f is not convex: up to three solutions are positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_NEWTON_STEPS = 3


@dataclass(frozen=True)
class Coefficients:
    """A, B, C and E of several units, each of the same shape."""

    a: Vector
    b: Vector
    c: Vector
    e: Vector

    def change(self, t: Vector) -> Vector:
        """Return f(t), which is 0 at t = 1, without cancellation near 1."""
        slope = self.a * (t + 1) - 2 * self.b - self.c * (t + 1) / t**2 + 2 * self.e / t
        return (t - 1) * slope


def best_factors(given: Coefficients) -> Vector:
    """Return the factor with the smallest f for each unit. A unit for which no factor is better than 1 gets 1.

    A unit whose f has no minimum (it falls towards 0 or infinity) gets 1 as well.
    """
    best = np.ones_like(given.a)
    both = (given.a > 0) & (given.c > 0)
    direct = (given.a > 0) & (given.c <= 0)
    inverse = (given.a <= 0) & (given.c > 0)
    best[both] = _best_of_roots(Coefficients(given.a[both], given.b[both], given.c[both], given.e[both]))
    best[direct] = _positive(given.b[direct] / given.a[direct])
    best[inverse] = 1 / _positive(given.e[inverse] / given.c[inverse])
    return np.where(given.change(best) < 0, best, 1.0)


def _positive(ratios: Vector) -> Vector:
    """Return ratios, with 1 in place of those that are not positive."""
    return np.where(ratios > 0, ratios, 1.0)


def _best_of_roots(given: Coefficients) -> Vector:
    """Return the positive root of each quartic with the smallest f. A and C are positive.

    The substitution t = (C / A)^¼ s gives s⁴ - p s³ + q s - 1 = 0, whose roots are eigenvalues of a companion matrix.
    """
    unit = (given.c / given.a) ** 0.25
    p = given.b / (given.a * unit)
    q = given.e * unit / given.c
    companion = np.zeros((len(unit), 4, 4))
    companion[:, 1:, :3] = np.eye(3)
    companion[:, 0, 3] = 1
    companion[:, 1, 3] = -q
    companion[:, 3, 3] = p
    roots = np.linalg.eigvals(companion).real.T  # complex ones are no roots, but harmless candidates
    best = np.ones_like(unit)
    value = given.change(best)
    for root in roots:
        factor = unit * _refined(np.where(root > 0, root, 1.0), p, q)
        changed = given.change(factor)
        better = changed < value
        best = np.where(better, factor, best)
        value = np.where(better, changed, value)
    return best


def _refined(s: Vector, p: Vector, q: Vector) -> Vector:
    """Return better roots of the quartics by Newton's method. A step that leaves the positive numbers is not made."""
    for _ in range(_NEWTON_STEPS):
        value = s**4 - p * s**3 + q * s - 1
        slope = 4 * s**3 - 3 * p * s**2 + q
        step = np.divide(value, slope, out=np.zeros_like(s), where=slope != 0)
        s = np.where(s - step > 0, s - step, s)
    return s
