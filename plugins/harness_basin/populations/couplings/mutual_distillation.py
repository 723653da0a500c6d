"""Distillation of networks into each other on one batch (Zhang et al. 2018; Anil et al. 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

import harness
from harness import Coupling

if TYPE_CHECKING:
    from torch import Tensor


class MutualDistillation(Coupling):
    """Each member's loss is (1 − β) τ² KL(p̄‖p) + β times its own, with p̄ the mean of the other members' probabilities.

    p̄ and p are at temperature τ, and no gradient flows through p̄. It is the objective `distillation` (paper, Eq. 1), whose
    teacher is the ensemble of the others as they are now.
    """

    name, version = "mutual_distillation", 1
    shares_batch = True

    class Options(harness.Options):
        """Options of mutual distillation."""

        beta: float = Field(0.2, ge=0, le=1, description="weight of a member's own loss relative to the others; 1: no teacher")
        temperature: float = Field(3.0, gt=0, description="τ, which divides the logits of all members")

    def simplified(self, members: int) -> Coupling | None:
        """Return None if nobody is taught: at beta 1, or for one network."""
        return None if self.options.beta == 1 or members == 1 else self

    def joint_loss(self, losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the members' losses."""
        beta, temperature = self.options.beta, self.options.temperature
        divergence = divergence_from_others(logits / temperature)
        return beta * losses.sum() + (1 - beta) * temperature**2 * divergence


def divergence_from_others(logits: Tensor) -> Tensor:
    """Return Σ_m KL(p̄_m‖p_m) (), mean over the batch, where p̄_m is the mean of the others' probabilities, a constant.

    `logits` are (M, batch, classes), M ≥ 2.
    """
    import torch
    from torch.nn import functional as F

    members, batch = logits.shape[:2]
    student = logits.log_softmax(2)
    probabilities = student.detach().exp()
    others = 1 - torch.eye(members, device=logits.device, dtype=logits.dtype)
    shares = (others / (members - 1)).view(members, members, 1, 1)
    teacher = (probabilities * shares).sum(1)  # not a matrix product, which a GPU may round to TF32
    return F.kl_div(student, teacher, reduction="sum") / batch
