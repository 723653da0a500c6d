"""Sinkhorn's normalization of square matrices to doubly stochastic ones, with gradients by the implicit function theorem.

S = Sinkhorn(X) has entries exp(X_ij + f_i + g_j), with f and g such that all rows and columns sum to 1 (Sinkhorn 1964). Its
gradient is that of the converged normalization and does not depend on the number of rounds (Eisenberger et al. 2022; Peña et
al. 2023, section 3).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-6
"""Largest difference of a row's sum from 1 that needs no further round."""

MAX_ROUNDS = 1000
"""The number of rounds after which the normalization ends, however far rows are from 1."""

SMALLEST_PIVOT = 1e-10
"""A linear system with a smaller squared pivot of its Cholesky factor is solved by least squares."""


class Sinkhorn:
    """The normalization of logits (…, n, n), with at least `rounds` rounds, in the logarithm.

    The source has exactly `rounds`. Here more follow until all rows sum to 1 within 1e-6, since the gradient is that of the
    limit. `singular` counts the linear systems of gradients that least squares solved.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.singular = 0

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the doubly stochastic matrices, in the dtype of the logits."""
        result: Tensor = _Normalization.apply(logits, self)
        return result


def normalize(logits: Tensor, rounds: int) -> Tensor:
    """Return doubly stochastic matrices (…, n, n). Columns sum to 1 to rounding; rows as `Sinkhorn` says."""
    for number in range(1, MAX_ROUNDS + 1):
        logits = logits - logits.logsumexp(-1, keepdim=True)
        logits = logits - logits.logsumexp(-2, keepdim=True)
        if number >= rounds and row_error(logits.exp()) <= TOLERANCE:
            break
    return logits.exp()


def row_error(maps: Tensor) -> float:
    """Return the largest difference of the sum of a row from 1, for matrices (…, n, n)."""
    return float((maps.sum(-1) - 1).abs().max())


class _Normalization(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, layer: Sinkhorn) -> Tensor:
        maps = normalize(logits, layer.rounds)
        ctx.save_for_backward(maps)
        ctx.layer = layer
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (maps,) = ctx.saved_tensors
        size = maps.shape[-1]
        found, singular = implicit_gradient(maps.reshape(-1, size, size), gradients[0].reshape(-1, size, size))
        ctx.layer.singular += singular
        return found.reshape(maps.shape), None


def implicit_gradient(maps: Tensor, gradient: Tensor) -> tuple[Tensor, int]:
    """Return the gradient with respect to the logits (batch, n, n), and the number of singular systems.

    With H = S ∘ ∂L/∂S it is H − S ∘ (x 1ᵀ + 1 yᵀ), where x and y solve

        diag(S 1) x + S y = H 1,    Sᵀ x + diag(Sᵀ 1) y = Hᵀ 1.

    Adding a constant to x and subtracting it from y changes nothing, so y_n = 0: 2n − 1 unknowns, of which x is eliminated.
    Where S is nearly a permutation the system is singular too. Any of its solutions gives the same gradient.
    """
    weighted = maps * gradient
    rows = maps.sum(-1)
    scaled = maps / rows[..., None]
    system = torch.diag_embed(maps.sum(-2)) - maps.mT @ scaled
    right = weighted.sum(-2) - (scaled.mT @ weighted.sum(-1)[..., None])[..., 0]
    y = torch.zeros_like(rows)
    y[:, :-1], singular = _solve(system[:, :-1, :-1], right[:, :-1])
    x = (weighted.sum(-1) - (maps @ y[..., None])[..., 0]) / rows
    return weighted - maps * (x[..., None] + y[..., None, :]), singular


def _solve(systems: Tensor, right: Tensor) -> tuple[Tensor, int]:
    """Solve positive semidefinite systems (batch, n, n); return the solutions (batch, n) and how many were singular."""
    factors, info = torch.linalg.cholesky_ex(systems)
    solutions = torch.cholesky_solve(right[..., None], factors)[..., 0]
    singular = 0
    for k in range(len(systems)):
        pivots = factors[k].diagonal().square()
        if info[k] == 0 and bool((pivots >= SMALLEST_PIVOT).all()):
            continue
        singular += 1
        if bool(systems[k].isfinite().all()) and bool(right[k].isfinite().all()):
            solved = torch.linalg.lstsq(systems[k], right[k][:, None], rcond=SMALLEST_PIVOT, driver="gelsd")
            solutions[k] = solved.solution[:, 0]
        else:
            solutions[k] = torch.nan
    return solutions, singular
