"""Eq. 1 of the paper against a loop in double precision that follows its print, and against finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from harness_basin.distillation import Distillation, DistillationOptions


def softmax(values: Sequence[float]) -> list[float]:
    """σ as printed."""
    exponentials = [math.exp(v - max(values)) for v in values]
    return [e / sum(exponentials) for e in exponentials]


def equation_1(student: list[list[float]], teacher: list[list[float]], labels: list[int], beta: float, tau: float) -> float:
    """The mean over examples of (1 − β) τ² KL(σ(teacher/τ), σ(student/τ)) − β log σ(student)_y."""
    total = 0.0
    for f, g, y in zip(student, teacher, labels, strict=True):
        p, q = softmax([v / tau for v in g]), softmax([v / tau for v in f])
        divergence = sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
        total += (1 - beta) * tau**2 * divergence - beta * math.log(softmax(f)[y])
    return total / len(labels)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_loss_is_equation_1(beta: float, tau: float) -> None:
    """To twelve digits, in float64."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(6, 5, generator=generator, dtype=torch.float64) * 4 for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    objective = Distillation(DistillationOptions(beta=beta, temperature=tau))
    loss = objective.loss(student, labels, teacher_logits=teacher)
    expected = equation_1(student.tolist(), teacher.tolist(), labels.tolist(), beta, tau)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_gradient_by_finite_differences() -> None:
    """The student's gradient is Eq. 1's; the teacher has none."""
    generator = torch.Generator().manual_seed(4)
    student, teacher = (torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    labels = torch.tensor([1, 0, 3])
    objective = Distillation(DistillationOptions(beta=0.2))
    assert torch.autograd.gradcheck(lambda s: objective.loss(s, labels, teacher_logits=teacher.detach()), student)


def test_direction_of_the_divergence() -> None:
    """KL(teacher‖student): a student that misses a mode of the teacher pays more than one that adds a mode."""
    objective = Distillation(DistillationOptions(beta=0.0, temperature=1.0))
    two, one = torch.tensor([[5.0, 5.0, -5.0]]), torch.tensor([[5.0, -5.0, -5.0]])
    labels = torch.tensor([0])
    assert objective.loss(one, labels, teacher_logits=two) > objective.loss(two, labels, teacher_logits=one)


def test_beta_one_is_cross_entropy() -> None:
    """β = 1 simplifies to plain training (paper §4)."""
    assert Distillation(DistillationOptions(beta=1.0)).simplified().name == "cross_entropy"
    assert Distillation(DistillationOptions(beta=0.999)).simplified().name == "distillation"
