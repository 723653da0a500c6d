"""Coupled steps on a CUDA device: captured against eager, and on the CPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from harness import Coupling, Recipe
from harness.training.cuda_graph import CapturePolicy
from harness.training.joint import JointTraining, SideBySide
from harness.training.loop import train_together
from harness.training.mixture import AtMixtures
from harness.training.point import Point
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.shuffle import Shuffle
from siblings import Family

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

RECIPE = Recipe(epochs=2, batch_size=48, precision="fp32", learning_rate=0.02)
FARTHEST = 0.15
"""How far outcomes may be apart by rounding, as a share of the way that was trained; of siblings that differ it is about 1."""


def ends(coupling: Coupling, device: str, capture_from: int) -> tuple[list[Point], list[Point], str]:
    """Train three ResNet20; return their points at the start and at the end, and how the steps were taken."""
    family = Family("resnet20", RECIPE, device)
    pairs = [family.sibling(member) for member in range(3)]
    trainers, starts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    training: JointTraining = SideBySide(trainers, coupling, ("coupling",))
    if coupling.mixes:
        training = AtMixtures(trainers[0], 3, coupling, ("coupling",))
    manners: list[str] = []
    train = partial(train_together, capture_policy=CapturePolicy(capture_from))
    found = training.run(starts, 2, train=train, on_stepping=lambda stepping: manners.append(stepping.manner))
    return starts, found, manners[0]


@pytest.mark.parametrize(
    "coupling",
    [Pull(Pull.Options(alpha=0.5, every=2)), Shuffle(Shuffle.Options(p=0.01)), Mixture()],
    ids=lambda coupling: coupling.name,
)
def test_captured_steps(coupling: Coupling) -> None:
    """Captured or not, on the device or not, the networks end near one another."""
    starts, expected, manner = ends(coupling, "cpu", 10**9)
    assert manner == "eager"
    for capture_from, how in ((0, "captured"), (10**9, "eager")):
        _, found, manner = ends(coupling, "cuda", capture_from)
        assert manner == how
        for start, one, other in zip(starts, found[:3], expected[:3], strict=True):
            apart, trained = 0.0, 0.0
            for name, tensor in start.weights.items():
                apart += float((one.weights[name] - other.weights[name]).square().sum())
                trained += float((other.weights[name] - tensor).square().sum())
            assert (apart / trained) ** 0.5 < FARTHEST
