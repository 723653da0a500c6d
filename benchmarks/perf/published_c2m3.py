"""C2M3's pairwise Frank-Wolfe matching as its implementation computes it (Crisostomi et al. 2024), for comparison.

Every step multiplies the weights by the current matrices again, computes the full Gram matrix of every group, solves its linear
assignments from scratch, and finds the step size by a bounded scalar search that evaluates the objective.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment, minimize_scalar
from torch import Tensor

StateDict = dict[str, Tensor]
Groups = Sequence[Sequence[tuple[str, int]]]
"""The axes of every group, as (parameter, axis)."""

EVALUATIONS = 20
"""Largest number of evaluations of the objective in one line search."""

STEP_TOLERANCE = 1e-3
MAX_STEPS = 200
TOLERANCE = 1e-6
PATIENCE = 5


def published_frank_wolfe(groups: Groups, a: StateDict, b: StateDict) -> list[Tensor]:
    """Return permutations of b's units, one per group; the weights' precision is that of all products."""
    group_of: dict[tuple[str, int], int] = {}
    for g, group in enumerate(groups):
        for place in group:
            group_of[place] = g
    names = sorted({name for name, _ in group_of})
    matrices = [torch.eye(a[group[0][0]].shape[group[0][1]]) for group in groups]
    value = 0.0
    idle = 0
    for _ in range(MAX_STEPS):
        vertices = [_permutation_matrix(gram) for gram in _grams(groups, group_of, a, b, matrices)]

        def moved(share: float, start=matrices, end=vertices) -> list[Tensor]:
            return [(1 - share) * p + share * v for p, v in zip(start, end, strict=True)]

        search = minimize_scalar(
            lambda share, moved=moved: -_objective(names, group_of, a, b, moved(share)),
            bounds=(0, 1),
            method="bounded",
            options={"xatol": STEP_TOLERANCE, "maxiter": EVALUATIONS},
        )
        matrices = moved(float(search.x))
        idle = idle + 1 if -search.fun - value < TOLERANCE * abs(search.fun) else 0
        value = -search.fun
        if idle == PATIENCE:
            break
    return [_permutation_matrix(matrix).argmax(1) for matrix in matrices]


def _grams(groups: Groups, group_of, a: StateDict, b: StateDict, matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of ⟨θ_a, P θ_b⟩ by every group's matrix."""
    found = []
    for group in groups:
        gram = torch.zeros(())
        for name, axis in group:
            moved = b[name]
            for other in range(moved.ndim):
                if other != axis and (name, other) in group_of:
                    moved = _multiplied(moved, matrices[group_of[name, other]], other)
            rows_a = a[name].movedim(axis, 0).flatten(1) if a[name].ndim > 1 else a[name][:, None]
            rows_b = moved.movedim(axis, 0).flatten(1) if moved.ndim > 1 else moved[:, None]
            gram = gram + rows_a @ rows_b.T
        found.append(gram)
    return found


def _objective(names: Sequence[str], group_of, a: StateDict, b: StateDict, matrices: Sequence[Tensor]) -> float:
    """Return ⟨θ_a, P θ_b⟩."""
    total = 0.0
    for name in names:
        moved = b[name]
        for axis in range(moved.ndim):
            if (name, axis) in group_of:
                moved = _multiplied(moved, matrices[group_of[name, axis]], axis)
        total += float((a[name] * moved).sum())
    return total


def _multiplied(weights: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return weights whose axis is multiplied by a matrix."""
    return torch.tensordot(matrix, weights, ([1], [axis])).movedim(0, axis)


def _permutation_matrix(gains: Tensor) -> Tensor:
    """Return the permutation matrix V that maximizes ⟨gains, V⟩."""
    rows, columns = linear_sum_assignment(gains.numpy(), maximize=True)
    found = torch.zeros_like(gains)
    found[rows, columns] = 1.0
    return found
