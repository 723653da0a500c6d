"""Integer solutions of systems in floating point: planted ones, rounding, unknowns without effect."""

from __future__ import annotations

import numpy as np

from harness_basin.matching.linear.integer_null_space import effective, integer_null_space, sizes_of_unknowns, unclear


def system(solutions: list[list[int]], equations: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a random system whose null space has the given basis, and sizes of the terms of its coefficients."""
    null = np.array(solutions, dtype=float)
    _, _, vectors = np.linalg.svd(null)
    matrix = np.random.default_rng(seed).normal(size=(equations, null.shape[1] - len(null))) @ vectors[len(null) :]
    return matrix, np.abs(matrix) * 3 + 1


def test_families_with_different_unknowns() -> None:
    """Vectors without common unknowns are returned as they are."""
    planted = [[1, 1, 0, -1, 0, 0, 0], [0, 0, 1, 0, 0, -1, -1]]
    found = integer_null_space(*system(planted))
    assert [vector.tolist() for vector in found] == planted


def test_families_that_share_unknowns() -> None:
    """Of overlapping vectors, another basis of the same space is returned, in echelon form."""
    found = integer_null_space(*system([[1, 1, -1, 0], [1, 0, -1, 0]]))
    assert [vector.tolist() for vector in found] == [[1, 0, -1, 0], [0, 1, 0, 0]]


def test_weak_unknowns() -> None:
    """Coefficients of very different sizes do not hide a solution."""
    matrix = np.random.default_rng(0).normal(size=(40, 4))
    matrix[:, 0] *= 1e-5
    matrix[:, 3] = matrix[:, 0] + matrix[:, 1]
    found = integer_null_space(matrix, 3 * np.abs(matrix))
    assert [vector.tolist() for vector in found] == [[1, 1, 0, -1]]


def test_small_violations_are_no_rounding() -> None:
    """A solution up to 1e-6, as through the ε of a normalization, is not returned."""
    matrix, sizes = system([[1, -1, 0]])
    matrix[:, 0] += 1e-6 * sizes[:, 0]
    assert integer_null_space(matrix, sizes) == []


def test_fractions_and_fewer_equations_than_unknowns() -> None:
    """Vectors that are not whole numbers are left out, and a system that cannot determine its unknowns gives none."""
    assert integer_null_space(*system([[2, -1, 0]])) == []
    assert integer_null_space(*system([[1, -1, 0]], equations=2)) == []


def test_unknowns_without_effect() -> None:
    """Unknowns whose terms are rounding errors of the others are not effective; equations without terms do not count."""
    sizes = sizes_of_unknowns(np.array([[1.0, 1e-16, 0.5], [0.0, 0.0, 0.0], [2.0, 1e-15, 1e-5]]))
    assert effective(sizes).tolist() == [True, False, True]
    assert not unclear(sizes)
    assert effective(sizes_of_unknowns(np.zeros((2, 3)))).tolist() == [False] * 3


def test_unknowns_that_may_be_rounding_errors() -> None:
    """An unknown between rounding errors and clear effects makes the system unclear."""
    assert unclear(sizes_of_unknowns(np.array([[1.0, 1e-10]])))
    assert not unclear(sizes_of_unknowns(np.array([[1.0, 1e-6]])))
