"""Sinkhorn's normalization of square matrices to doubly stochastic ones, with gradients by the implicit function theorem.

S = Sinkhorn(X) has entries exp(X_ij + f_i + g_j), with f and g such that all rows and columns sum to 1 (Sinkhorn 1964). Its
gradient is that of the converged normalization and does not depend on the number of rounds (Eisenberger et al. 2022; Peña et
al. 2023, section 3).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 1e-6
"""Largest difference of a row's sum from 1 that needs no further round."""

NEWTON_ROUNDS = 20
"""The largest number of further rounds, each followed by a step of Newton's method."""

MAX_HALVINGS = 16
"""How often logits are halved at most before their normalization."""

SMALLEST_PIVOT = 1e-10
"""A linear system with a smaller squared pivot of its Cholesky factor is solved by least squares."""


class Sinkhorn:
    """The normalization of logits (…, n, n), with at least `rounds` rounds, in the logarithm.

    The source has exactly `rounds`. Here more follow as `normalize` says until all rows sum to 1 within 1e-6, since the
    gradient is that of the limit. `singular` counts the linear systems of gradients that least squares solved.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.singular = 0

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the doubly stochastic matrices, in the dtype of the logits."""
        result: Tensor = _Normalization.apply(logits, self)
        return result


def normalize(logits: Tensor, rounds: int) -> Tensor:
    """Return doubly stochastic matrices (…, n, n). Columns sum to 1 to rounding; rows as `Sinkhorn` says.

    If the rounds do not converge, the logits are too sharp. Then logits divided by 2, 4, 8 … are normalized first, and
    doubled step by step: each normalization starts near the next.
    """
    found = _normalized(logits, rounds)
    spread = float(logits.max() - logits.min())
    if _largest_error(found) > TOLERANCE and math.isfinite(spread):
        halvings = min(MAX_HALVINGS, math.ceil(math.log2(spread)))
        found = _normalized(logits / 2**halvings, rounds)
        for _ in range(halvings):
            found = _normalized(2 * found, rounds)
    return found.exp()


def _normalized(logits: Tensor, rounds: int) -> Tensor:
    """Return normalized logits after some rounds, and further ones with Newton's method while these are needed."""
    for _ in range(rounds):
        logits = _round(logits)
    for _ in range(NEWTON_ROUNDS):
        if _largest_error(logits) <= TOLERANCE:
            break
        logits = _newton_step(_round(logits))
    return logits


def _largest_error(logits: Tensor) -> float:
    return float(row_errors(logits.exp()).max())


def _round(logits: Tensor) -> Tensor:
    logits = logits - logits.logsumexp(-1, keepdim=True)
    return logits - logits.logsumexp(-2, keepdim=True)


def _newton_step(logits: Tensor) -> Tensor:
    """Return logits after a step of Newton's method towards sums of 1, where that brings rows closer to them.

    It solves the system of `implicit_gradient` for the remaining errors of the sums.
    """
    maps = logits.exp()
    rows = maps.sum(-1)
    missing = 1 - rows
    scaled = maps / rows[..., None]
    system = torch.diag_embed(maps.sum(-2)) - maps.mT @ scaled
    right = -(scaled.mT @ missing[..., None])[..., :-1, :]
    factors, _ = torch.linalg.cholesky_ex(system[..., :-1, :-1])
    columns = F.pad(torch.cholesky_solve(right, factors)[..., 0], (0, 1))
    change = (missing - (maps @ columns[..., None])[..., 0]) / rows
    moved = logits + change[..., None] + columns[..., None, :]
    moved = moved - moved.logsumexp(-2, keepdim=True)
    better = row_errors(moved.exp()) < row_errors(maps)  # False for NaN, where the system is singular
    return torch.where(better[..., None, None], moved, logits)


def row_errors(maps: Tensor) -> Tensor:
    """Return the largest difference of the sum of a row from 1 per matrix, (…); matrices are (…, n, n)."""
    return (maps.sum(-1) - 1).abs().amax(-1)


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
