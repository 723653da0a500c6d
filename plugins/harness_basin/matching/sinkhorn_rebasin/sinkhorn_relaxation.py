"""Permutations relaxed to doubly stochastic maps of raw matrices, as Sinkhorn re-basin learns them (Peña et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import TaskFailed, streams
from harness_basin.matching.errors import require_finite_loss
from harness_basin.matching.sinkhorn_rebasin.sinkhorn import Sinkhorn
from harness_basin.matching.sinkhorn_rebasin.soft_maps import Maps, round_maps
from harness_basin.matching.symmetry import Permutations, Symmetry, identity

ADAM_EPSILON = 1e-12
"""Added to Adam's denominators. Losses are divided by the number of parameters, so that the usual 1e-8 would slow the steps."""


@dataclass(frozen=True)
class RelaxationSettings:
    """How raw matrices start, become maps, and are learned.

    They start at I + `noise` · N(0, 1). Maps are Sinkhorn(`inverse_temperature` · raw) with at least `rounds` rounds.
    """

    noise: float = 0.1
    inverse_temperature: float = 1.0
    rounds: int = 20
    learning_rate: float = 0.1


class Relaxation:
    """One raw matrix per permutation of a symmetry, learned with AdamW, and the best permutations that they were rounded to.

    Raw matrices are float64 tensors (*outer sizes, size, size), one per group. Permutations are offered with their loss; the
    identity is offered first, so the result is never worse.
    """

    def __init__(self, symmetry: Symmetry, settings: RelaxationSettings, stream: int, identity_loss: float) -> None:
        self.settings = settings
        self.sinkhorn = Sinkhorn(settings.rounds)
        self.raw = _start(symmetry, settings.noise, stream)
        self.optimizer = torch.optim.AdamW(self.raw, lr=settings.learning_rate, eps=ADAM_EPSILON)
        self.best = identity(symmetry)
        self.best_loss = require_finite_loss("sinkhorn", identity_loss, "at the identity")
        self.assignments = 0

    def maps(self) -> Maps:
        """Return the soft maps of the raw matrices, differentiable."""
        return tuple(self.sinkhorn(self.settings.inverse_temperature * matrices) for matrices in self.raw)

    def step(self, loss: float, differentiable: Tensor, number: int) -> None:
        """Change the raw matrices by one step of AdamW, along the gradient of a scalar that depends on `maps`.

        Raise `TaskFailed` if the loss or a raw matrix is not finite; the message names the step by its number.
        """
        rate = self.settings.learning_rate
        require_finite_loss("sinkhorn", loss, f"of step {number}", rate)
        self.optimizer.zero_grad()
        differentiable.backward()
        self.optimizer.step()
        for matrices in self.raw:
            if not bool(matrices.isfinite().all()):
                raise TaskFailed(
                    f"sinkhorn: a raw matrix is not finite after step {number}; is learning_rate ({rate:g}) too large?"
                )

    def rounded(self) -> Permutations:
        """Return the permutations nearest to the raw matrices, by one linear assignment problem per matrix."""
        self.assignments += sum(matrices[..., 0, 0].numel() for matrices in self.raw)
        return round_maps(self.raw)

    def offer(self, permutations: Permutations, loss: float) -> None:
        """Keep permutations if their loss is below that of the best ones."""
        if loss < self.best_loss:
            self.best = permutations
            self.best_loss = loss

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that further steps depend on: raw matrices, the optimizer's moments, the best permutations."""
        tensors = {}
        for group, matrices in enumerate(self.raw):
            tensors[f"raw.{group}"] = matrices.detach()
            tensors[f"best.{group}"] = self.best[group]
            for name, moment in self.optimizer.state[matrices].items():
                tensors[f"{name}.{group}"] = moment
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], best_loss: float, assignments: int) -> None:
        """Continue from a state."""
        best = []
        for group, matrices in enumerate(self.raw):
            matrices.data.copy_(tensors[f"raw.{group}"])
            best.append(tensors[f"best.{group}"].clone())
            moments = {}
            for name in ("step", "exp_avg", "exp_avg_sq"):
                if f"{name}.{group}" in tensors:
                    moments[name] = tensors[f"{name}.{group}"].clone()
            self.optimizer.state[matrices] = moments
        self.best = tuple(best)
        self.best_loss = best_loss
        self.assignments = assignments


def _start(symmetry: Symmetry, noise: float, stream: int) -> list[Tensor]:
    """Return the raw matrices I + noise · N(0, 1), which require gradients."""
    found = []
    for group in range(len(symmetry.groups)):
        *outer, size = symmetry.shape(group)
        with streams.seeded(streams.key("raw", stream, group)):
            normal = torch.randn(*outer, size, size, dtype=torch.float64)
        found.append((torch.eye(size, dtype=torch.float64) + noise * normal).requires_grad_())
    return found
