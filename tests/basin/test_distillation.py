"""The distillation loss against Eq. 1 of the paper in plain Python, and its gradient against finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from harness_basin.distillation import Distillation, DistillationOptions


def softmax(values: Sequence[float]) -> list[float]:
    """Return σ(values)."""
    exponentials = [math.exp(v - max(values)) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def equation_1(student: list[list[float]], teacher: list[list[float]], labels: list[int], beta: float, tau: float) -> float:
    """Return the mean over examples of (1 − β) τ² KL(σ(teacher/τ), σ(student/τ)) − β log σ(student)_y."""
    total = 0.0
    for f, g, y in zip(student, teacher, labels, strict=True):
        p = softmax([value / tau for value in g])
        q = softmax([value / tau for value in f])
        divergence = sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
        total += (1 - beta) * tau**2 * divergence - beta * math.log(softmax(f)[y])
    return total / len(labels)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_loss_is_equation_1(beta: float, tau: float) -> None:
    """The values agree to twelve digits in float64."""
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(6, 5, generator=generator, dtype=torch.float64) * 4
    teacher = torch.randn(6, 5, generator=generator, dtype=torch.float64) * 4
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    objective = Distillation(DistillationOptions(beta=beta, temperature=tau))
    loss = objective.loss(student, labels, teacher_logits=teacher)
    expected = equation_1(student.tolist(), teacher.tolist(), labels.tolist(), beta, tau)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_gradient() -> None:
    """The student's gradient agrees with finite differences."""
    generator = torch.Generator().manual_seed(4)
    student = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([1, 0, 3])
    objective = Distillation(DistillationOptions(beta=0.2))
    assert torch.autograd.gradcheck(lambda s: objective.loss(s, labels, teacher_logits=teacher), student)


def test_direction_of_the_divergence() -> None:
    """It is KL(teacher‖student): a missing mode of the teacher costs more than an additional mode."""
    objective = Distillation(DistillationOptions(beta=0.0, temperature=1.0))
    two_modes = torch.tensor([[5.0, 5.0, -5.0]])
    one_mode = torch.tensor([[5.0, -5.0, -5.0]])
    labels = torch.tensor([0])
    missing = objective.loss(one_mode, labels, teacher_logits=two_modes)
    additional = objective.loss(two_modes, labels, teacher_logits=one_mode)
    assert missing > additional


def test_beta_of_one() -> None:
    """The objective simplifies to cross-entropy (paper §4)."""
    assert Distillation(DistillationOptions(beta=1.0)).simplified().name == "cross_entropy"
    assert Distillation(DistillationOptions(beta=0.999)).simplified().name == "distillation"
