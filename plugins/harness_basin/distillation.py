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
    """β and τ of Eq. 1, and the images that the teacher sees."""

    beta: float = Field(0.2, ge=0, le=1, description="weight of the labels relative to the teacher; 1: no teacher (Eq. 1)")
    temperature: float = Field(3.0, gt=0, description="τ, which divides the logits of teacher and student (appendix C)")
    teacher_view: Literal["augmented", "plain"] = Field(
        "augmented",
        description="the teacher's input: the student's augmented images (Eq. 1 has one x), or the same images unaugmented",
    )

    def distillation(self) -> DistillationOptions:
        """Return the options of Eq. 1 without those that a subclass adds."""
        return DistillationOptions(**{name: getattr(self, name) for name in DistillationOptions.model_fields})


class Distillation(Objective):
    """(1 − β) τ² KL(teacher‖student) at temperature τ, plus β times the cross-entropy with the labels (paper, Eq. 1).

    The teacher is in evaluation mode. By default it receives the student's augmented images.
    """

    name, version = "distillation", 1
    needs_teacher = True
    epoch_cost = 4 / 3  # the teacher's forward pass in addition to the student's forward and backward pass
    Options = DistillationOptions

    @property
    def teacher_view(self) -> Literal["augmented", "plain"]:  # type: ignore[override]
        """The teacher's input: the student's augmented images, or the same images without augmentation."""
        return self.options.teacher_view

    def simplified(self) -> Objective:
        """Return cross-entropy for β = 1 (paper §4), otherwise this objective."""
        if self.options.beta == 1:
            return CrossEntropy()
        return self

    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the mean of Eq. 1 over the batch, in nats.

        The logits of student and teacher are (batch, classes), the labels (batch,).
        """
        from torch.nn import functional as F

        assert teacher_logits is not None
        beta = self.options.beta
        temperature = self.options.temperature
        student = F.log_softmax(logits / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits / temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        cross_entropy = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return (1 - beta) * temperature**2 * divergence + beta * cross_entropy
