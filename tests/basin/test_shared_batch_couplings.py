"""Repulsion and mutual distillation on plain logits: against their formulas in plain Python, and by finite differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness_basin.distillation import Distillation, DistillationOptions
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.couplings.repulsion import Diversity, Repulsion, jensen_gap, mean_pairwise_divergence

LABELS = torch.tensor([1, 0, 3, 2, 2])


def predictions(members: int = 3, seed: int = 0) -> Tensor:
    """Return logits (M, 5, 4) in float64."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(members, 5, 4, generator=generator, dtype=torch.float64)


def own_losses(logits: Tensor) -> Tensor:
    """Return the members' cross-entropies, (M,)."""
    return torch.stack([F.cross_entropy(own, LABELS) for own in logits])


def entropy(probabilities: list[float]) -> float:
    """Return the Shannon entropy in nats."""
    return -sum(p * math.log(p) for p in probabilities)


def test_mean_pairwise_divergence() -> None:
    """It is the mean over pairs and images of H((p + q)/2) − (H(p) + H(q))/2."""
    logits = predictions(4)
    expected = []
    for left, right in itertools.combinations(logits.softmax(2).tolist(), 2):
        for p, q in zip(left, right, strict=True):
            mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
            expected.append(entropy(mean) - (entropy(p) + entropy(q)) / 2)
    found = mean_pairwise_divergence(logits.log_softmax(2))
    assert float(found) == pytest.approx(sum(expected) / len(expected), rel=1e-12)


def test_range_of_the_divergence() -> None:
    """It is 0 for equal predictions, and ln 2 for certain ones that differ."""
    certain = 1000 * torch.eye(4, dtype=torch.float64)[:3].unsqueeze(1).expand(3, 5, 4)
    assert float(mean_pairwise_divergence(certain.log_softmax(2))) == pytest.approx(math.log(2))
    same = predictions(1).expand(3, 5, 4)
    assert float(mean_pairwise_divergence(same.log_softmax(2))) == pytest.approx(0, abs=1e-12)


def test_jensen_gap_at_full_strength() -> None:
    """The joint loss is M times the cross-entropy of the mean probabilities: the ensemble is trained as one model."""
    logits = predictions()
    whole = Repulsion(Repulsion.Options(diversity="jensen_gap", strength=1)).joint_loss(own_losses(logits), logits, LABELS)
    of_mean = F.nll_loss(logits.softmax(2).mean(0).log(), LABELS)
    assert float(whole) == pytest.approx(3 * float(of_mean), rel=1e-12)
    assert float(jensen_gap(logits.log_softmax(2), LABELS)) > 0


@pytest.mark.parametrize("diversity", ["jensen_shannon", "jensen_gap"])
def test_gradient_of_the_repulsion(diversity: Diversity) -> None:
    """It agrees with finite differences in float64, for one step of any member's logits."""
    coupling = Repulsion(Repulsion.Options(diversity=diversity, strength=0.7))
    logits = predictions().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: coupling.joint_loss(own_losses(x), x, LABELS), logits)


@pytest.mark.parametrize("diversity", ["jensen_shannon", "jensen_gap"])
def test_no_repulsion(diversity: Diversity) -> None:
    """At strength 0 the loss and its gradient are the plain ones, to the bit; nothing is coupled."""
    coupling = Repulsion(Repulsion.Options(diversity=diversity, strength=0))
    logits = predictions().requires_grad_()
    losses = own_losses(logits)
    (found,) = torch.autograd.grad(coupling.joint_loss(losses, logits, LABELS), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.equal(found, expected)
    assert coupling.simplified(3) is None
    assert Repulsion().simplified(1) is None


@pytest.mark.parametrize(("beta", "temperature"), [(0.0, 1.0), (0.2, 3.0), (0.7, 0.5)])
def test_two_members_that_teach_each_other(beta: float, temperature: float) -> None:
    """The loss is the sum of the paper's Eq. 1 with the other as teacher."""
    logits = predictions(2)
    options = {"beta": beta, "temperature": temperature}
    found = MutualDistillation(MutualDistillation.Options(**options)).joint_loss(own_losses(logits), logits, LABELS)
    objective = Distillation(DistillationOptions(**options))
    expected = [objective.loss(logits[own], LABELS, teacher_logits=logits[1 - own]) for own in (0, 1)]
    assert float(found) == pytest.approx(float(sum(expected)), rel=1e-12)


def test_gradient_of_mutual_distillation() -> None:
    """For each member it is that of Eq. 1 with a constant teacher, the mean of the others; by finite differences."""
    coupling = MutualDistillation()
    objective = Distillation(DistillationOptions())
    logits = predictions()
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(coupling.joint_loss(own_losses(leaf), leaf, LABELS), leaf)
    for own in range(3):
        others = [logits[other] for other in range(3) if other != own]
        mean = torch.stack([(other / 3).softmax(1) for other in others]).mean(0)
        for image, number in itertools.product(range(5), range(4)):
            losses = []
            for sign in (1, -1):
                moved = logits[own].clone()
                moved[image, number] += sign * 1e-5
                losses.append(objective.loss(moved, LABELS, teacher_logits=3 * mean.log()))
            assert float(found[own, image, number]) == pytest.approx(float(losses[0] - losses[1]) / 2e-5, abs=1e-8)


def test_mutual_distillation_without_teachers() -> None:
    """At β = 1 the loss is the sum of the members' own, and nothing is coupled."""
    coupling = MutualDistillation(MutualDistillation.Options(beta=1))
    logits = predictions()
    assert float(coupling.joint_loss(own_losses(logits), logits, LABELS)) == float(own_losses(logits).sum())
    assert coupling.simplified(3) is None
    assert MutualDistillation().simplified(1) is None
