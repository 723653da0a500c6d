"""The cross-entropy objective of plain training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import Objective

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Objective):
    """Negative log-likelihood of the true class under the softmax, with the recipe's label smoothing."""

    name, version = "cross_entropy", 1
    default = True

    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the mean over the batch, in nats, for logits (batch, classes) and labels (batch,)."""
        from torch.nn import functional as F

        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
