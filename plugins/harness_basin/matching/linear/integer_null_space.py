"""Sparse integer solutions of a homogeneous linear system that is known in floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

ROUNDING = 1e-9
"""Largest relative residual that is accepted as rounding."""

_NO_PIVOT = 1e-7
"""Numbers that are smaller, relative to the largest of their row, are not used as pivots: they may be rounding errors."""

_NEGLIGIBLE = 1e-12
"""Equations and unknowns with smaller terms, relative to the largest, are no evidence of anything."""

_WEAK = 1e-9
"""Unknowns with smaller terms that are not negligible: they may be rounding errors or not."""


def sizes_of_unknowns(magnitudes: Matrix) -> Matrix:
    """Return the largest size of each unknown's terms, relative to the largest term of the same equation.

    `magnitudes` has the absolute sizes of an equation's terms: (equations, unknowns).
    """
    rows = magnitudes.max(1, initial=0)
    kept = rows > _NEGLIGIBLE * rows.max(initial=0)
    sizes: Matrix = (magnitudes[kept] / rows[kept, None]).max(0, initial=0)
    return sizes


def effective(sizes: Matrix) -> NDArray[np.bool_]:
    """Return which unknowns have terms that are larger than rounding errors of the others."""
    found: NDArray[np.bool_] = sizes > _NEGLIGIBLE
    return found


def unclear(sizes: Matrix) -> bool:
    """Return whether an unknown may be effective or not."""
    return bool((effective(sizes) & (sizes < _WEAK)).any())


def integer_null_space(equations: Matrix, magnitudes: Matrix) -> list[NDArray[np.int64]]:
    """Return independent integer vectors d with `equations` d = 0 up to rounding: the reduced echelon form of the null space.

    `magnitudes` has the absolute sizes of the terms from which each coefficient was summed. Vectors of the echelon form that
    are not whole numbers are left out. All unknowns have to be effective.
    """
    rows = magnitudes.max(1, initial=0)
    kept = rows > _NEGLIGIBLE * rows.max(initial=0)
    equations = equations[kept] / rows[kept, None]
    sizes = (magnitudes[kept] / rows[kept, None]).max(0, initial=0)
    if equations.shape[0] < equations.shape[1]:
        return []
    found = []
    for row, pivot in _echelon(_null_space(equations / sizes)):
        vector = row / sizes * (sizes[pivot] / row[pivot])
        rounded = np.rint(vector).astype(np.int64)
        whole = np.abs(vector - rounded).max() < 1e-3
        if whole and np.abs(equations @ rounded).max() <= ROUNDING * np.abs(sizes * rounded).max():
            found.append(rounded)
    return found


def _null_space(equations: Matrix) -> Matrix:
    """Return an orthonormal basis of the null space, one vector per row."""
    reduced = np.linalg.qr(equations, mode="r")
    _, values, vectors = np.linalg.svd(reduced)
    null: Matrix = vectors[values <= ROUNDING * max(1.0, values.max(initial=0))]
    return null


def _echelon(vectors: Matrix) -> list[tuple[Matrix, int]]:
    """Return the rows of the reduced echelon form, each with the column of its pivot, in which all other rows are 0."""
    rows = vectors.copy()
    pivots: list[int] = []
    for column in range(rows.shape[1]):
        done = len(pivots)
        if done == len(rows):
            break
        pivot = done + int(np.abs(rows[done:, column]).argmax())
        if np.abs(rows[pivot, column]) < _NO_PIVOT * np.abs(rows[pivot]).max():
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= np.abs(rows[done]).max()
        for other in range(len(rows)):
            if other != done:
                rows[other] -= rows[other, column] / rows[done, column] * rows[done]
        pivots.append(column)
    return list(zip(rows, pivots, strict=False))
