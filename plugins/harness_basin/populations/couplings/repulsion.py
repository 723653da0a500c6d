"""Repulsion of predictions on one batch: the regularizers of diversity of Abe et al. 2024."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import harness
from harness import Coupling

if TYPE_CHECKING:
    from torch import Tensor

Diversity = Literal["jensen_shannon", "jensen_gap"]


class Repulsion(Coupling):
    """Σ_m loss_m − strength · M · D, where D is the diversity of the members' predictions on the batch, in nats.

    Divided by M, this is the mean loss minus strength times the diversity (Abe et al. 2024). Where all members predict the
    same, the gradient of both diversities is that of the plain losses: members that are equal stay equal.
    """

    name, version = "repulsion", 1
    shares_batch = True

    class Options(harness.Options):
        """Options of the repulsion."""

        strength: float = Field(0.5, ge=0, description="weight of the diversity relative to a member's own loss; 0: none")
        diversity: Diversity = Field(
            "jensen_shannon",
            description="jensen_shannon: mean pairwise divergence; jensen_gap: mean loss minus loss of the mean prediction",
        )

    def simplified(self, members: int) -> Coupling | None:
        """Return None if nothing is repelled: at strength 0, or for one network."""
        return None if self.options.strength == 0 or members == 1 else self

    def joint_loss(self, losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return Σ_m loss_m − strength · M · D."""
        log_probabilities = logits.log_softmax(2)
        if self.options.diversity == "jensen_shannon":
            diversity = mean_pairwise_divergence(log_probabilities)
        else:
            diversity = jensen_gap(log_probabilities, labels)
        return losses.sum() - self.options.strength * len(losses) * diversity


def mean_pairwise_divergence(log_probabilities: Tensor) -> Tensor:
    """Return the Jensen–Shannon divergence (), mean over the batch and over all pairs of members; from 0 to ln 2.

    `log_probabilities` are (M, batch, classes), M ≥ 2. JS(p, q) = ½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2 (Lin 1991).
    """
    import torch

    members = len(log_probabilities)
    own, other = log_probabilities.unsqueeze(1), log_probabilities.unsqueeze(0)
    log_mean = torch.logaddexp(own, other) - math.log(2)  # (M, M, batch, classes)
    to_mean = (own.exp() * (own - log_mean)).sum(3).mean(2)  # KL of member i to its mean with member j; 0 for j = i
    return to_mean.sum() / (members * (members - 1))


def jensen_gap(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of members minus that of their mean prediction (), mean over the batch; at least 0.

    `log_probabilities` are (M, batch, classes), `labels` (batch,). At strength 1, the members' own cross-entropies cancel and
    the ensemble is trained as one model.
    """
    import torch

    of_labels = log_probabilities.gather(2, labels.expand(len(log_probabilities), -1).unsqueeze(2)).squeeze(2)
    of_mean = torch.logsumexp(of_labels, 0) - math.log(len(log_probabilities))
    return (of_mean - of_labels.mean(0)).mean()
