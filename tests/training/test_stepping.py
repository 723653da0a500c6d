"""How the steps of a training are taken is told before the first step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness import Recipe
from harness.training.cuda_graph import CapturePolicy
from harness.training.loop import train_together
from harness.training.stepping import Stepping, uses_tf32
from siblings import Family
from training.recorded_graphs import RecordedGraphs

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(("members", "precision"), [(1, "fp32"), (3, "bf16")])
def test_stepping_on_the_cpu(members: int, precision: str) -> None:
    """Steps are eager, of all siblings of the group, in the recipe's precision, and there is no fallback."""
    found = []
    family = Family("perceptron", Recipe(epochs=1, batch_size=24, precision=precision))
    trainers, starts = zip(*map(family.sibling, range(members)), strict=True)
    train_together(trainers, starts, 1, on_stepping=found.append)
    assert found == [Stepping("eager", members, precision, tf32=False)]


@pytest.mark.parametrize(("compile_from", "manner"), [(10**9, "captured"), (0, "compiled")])
def test_stepping_with_graphs(compile_from: int, manner: str) -> None:
    """It is told once per group, before the first step."""
    found = []
    family = Family("perceptron", Recipe(epochs=2, batch_size=24, precision="fp32"))
    trainers, starts = zip(*map(family.sibling, range(2)), strict=True)
    policy = CapturePolicy(0, compile_from, lambda device: RecordedGraphs())
    records = [lambda record, point: found.append(record.epoch)] * 2
    train_together(trainers, starts, 2, capture_policy=policy, on_stepping=found.append, after_epoch=records)
    assert found == [Stepping(manner, 2, "fp32", tf32=False), 1, 1, 2, 2]


def test_training_that_is_done_takes_no_steps() -> None:
    """Nothing is told."""
    found = []
    trainer, start = Family("perceptron", Recipe(epochs=1, batch_size=24)).sibling(0)
    train_together([trainer], [start], 0, on_stepping=found.append)
    assert found == []


@pytest.fixture
def tf32_flags() -> Iterator[None]:
    """Restore torch's flags after the test."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.usefixtures("tf32_flags")
@pytest.mark.parametrize(("products", "convolutions"), [(False, False), (True, False), (False, True), (True, True)])
def test_tf32_is_that_of_torchs_flags(products: bool, convolutions: bool) -> None:
    """It is on if products or convolutions use it on the device; on the CPU it is off."""
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
    assert uses_tf32(CUDA) == (products or convolutions)
    assert not uses_tf32(torch.device("cpu"))
