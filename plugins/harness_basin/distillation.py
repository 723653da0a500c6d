"""The distillation objective (Hinton et al. 2015; paper Eq. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

import harness
from harness import Objective
from harness_basin.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from torch import Tensor


class DistillationOptions(harness.Options):
    """The two numbers of Eq. 1."""

    beta: float = Field(0.2, ge=0, le=1, description="weight of the labels against the teacher; 1: no teacher at all (Eq. 1)")
    temperature: float = Field(3.0, gt=0, description="τ, by which both logits are divided (appendix C)")
    teacher_view: Literal["augmented", "plain"] = Field(
        "augmented", description="what the teacher sees: the student's augmented images (Eq. 1 has one x), or those without"
    )

    def distillation(self) -> DistillationOptions:
        """Return these options alone, without those that a method adds to them."""
        return DistillationOptions(**{name: getattr(self, name) for name in DistillationOptions.model_fields})


class Distillation(Objective):
    """(1 − β) τ² KL(teacher‖student) at temperature τ, plus β times the cross-entropy with the labels.

    The teacher is in evaluation mode, and by default sees the same augmented images.
    """

    name, version = "distillation", 1
    needs_teacher = True
    epoch_cost = 4 / 3  # the teacher's forward pass on top of forward and backward
    Options = DistillationOptions

    @property
    def teacher_view(self) -> Literal["augmented", "plain"]:  # type: ignore[override]
        """What the teacher sees."""
        return self.options.teacher_view

    def simplified(self) -> Objective:
        """β = 1 leaves cross-entropy (paper §4)."""
        return CrossEntropy() if self.options.beta == 1 else self

    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return Eq. 1 as the mean over the batch, in nats."""
        from torch.nn import functional as F

        assert teacher_logits is not None
        beta, temperature = self.options.beta, self.options.temperature
        student = F.log_softmax(logits / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits / temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        hard = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return (1 - beta) * temperature**2 * divergence + beta * hard
