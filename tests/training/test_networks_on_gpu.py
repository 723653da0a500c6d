"""Captured and compiled steps of many networks on a CUDA device, against eager ones there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from harness import Recipe
from harness.networks.evaluation import full_precision
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.trace import NotCapturable
from siblings import Family
from training.captured import started
from training.device_cases import NETWORKS, RECIPES, Siblings
from training.graph_checks import Draws, backend_of, distance_of_replays, largest_errors

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

MAX_DISTANCE = {"fp32": 0.02, "bf16": 0.15}
MAX_DISTANCE_OF_ADAM = {"fp32": 0.05, "bf16": 0.4}
"""How far replays may end from eager steps. Where a gradient is nothing but rounding, Adam goes in an arbitrary direction."""

LAST_DEVICE = f"cuda:{max(0, torch.cuda.device_count() - 1)}"

WARNINGS = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
"""torch's compiler emits some of its own."""


@pytest.fixture(autouse=True)
def _float32_without_tf32() -> Iterator[None]:
    with full_precision():
        yield


def siblings(name: str, optimizer: str, precision: str, view: str | None = None, device: str = "cuda") -> Siblings:
    """Return siblings on the device."""
    return Siblings(name, RECIPES[optimizer].model_copy(update={"precision": precision}), device, view)


class WithFunctionalDropout(Family):
    """Perceptrons that draw from torch's global generator."""

    def module(self, member: int) -> nn.Module:
        return nn.Sequential(super().module(member), Draws())


def distance_or_refusal(family: Family) -> float:
    """Return how far replays end from eager steps; 0 if the capture refuses networks that draw from the global generator."""
    try:
        return distance_of_replays(family, backend_of("cuda"))
    except NotCapturable as error:
        if "generator" not in str(error):
            raise
        return 0.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("view", [None, "augmented", "plain"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith("timm")])
def test_captured(name: str, view: str | None, precision: str) -> None:
    """Two siblings, with every operation of the augmentation, with and without teachers."""
    assert distance_of_replays(siblings(name, "sgd", precision, view), backend_of("cuda")) < MAX_DISTANCE[precision]


@pytest.mark.parametrize("optimizer", RECIPES)
def test_captured_optimizers(optimizer: str) -> None:
    """A network with BatchNorm and one with an unused parameter, in float32."""
    for name in ("batchnorm", "unused parameter"):
        assert distance_of_replays(siblings(name, optimizer, "fp32"), backend_of("cuda")) < MAX_DISTANCE_OF_ADAM["fp32"]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("timm")])
def test_timm_networks(name: str) -> None:
    """They draw from the global generator: a capture refuses them, or its replays end where eager steps do."""
    assert distance_or_refusal(siblings(name, "sgd", "fp32", "plain")) < MAX_DISTANCE["fp32"]


def test_network_with_functional_dropout() -> None:
    """A capture refuses it, or replays draw what eager steps do."""
    assert distance_or_refusal(WithFunctionalDropout("perceptron", Recipe(batch_size=16), "cuda")) < MAX_DISTANCE["fp32"]


@WARNINGS
@pytest.mark.parametrize(
    ("name", "optimizer", "precision", "view"),
    [
        ("resnet20", "sgd", "bf16", None),
        ("resnet20", "adamw", "fp32", "augmented"),
        ("vit", "adamw", "bf16", "plain"),
        ("vit", "nesterov", "fp32", None),
    ],
)
def test_compiled(name: str, optimizer: str, precision: str, view: str | None) -> None:
    """Compiled siblings, with teachers and AdamW too."""
    limits = MAX_DISTANCE_OF_ADAM if optimizer == "adamw" else MAX_DISTANCE
    found = distance_of_replays(siblings(name, optimizer, precision, view), backend_of("cuda"), compiled=True)
    assert found < limits[precision]


@WARNINGS
@pytest.mark.parametrize("compiled", [False, True], ids=["captured", "compiled"])
def test_network_of_the_papers_width(compiled: bool) -> None:
    """Five ResNet20×4 in bf16, batches of 128."""
    family = Family("resnet20", Recipe(batch_size=128, learning_rate=0.01, precision="bf16"), "cuda", channels=64)
    found = distance_of_replays(family, backend_of("cuda"), members=5, compiled=compiled)
    assert found < MAX_DISTANCE["bf16"]


@pytest.mark.parametrize("kind", ["resnet20", "vit"])
def test_thousands_of_replays(kind: str) -> None:
    """In 2,000 replays of five siblings, no gradient differs from that of the sibling alone by more than rounding."""
    family = Family(kind, Recipe(batch_size=48, learning_rate=0.01), "cuda")
    errors = largest_errors(started(family, 5), backend_of("cuda"), 2000)
    assert max(errors) < 1e-3, errors


def test_last_device() -> None:
    """Training on a device with an index, also if another one is current, ends where training on the CPU does."""
    ends = []
    for device in (LAST_DEVICE, "cpu"):
        trainer, start = siblings("resnet20", "sgd", "fp32", "augmented", device).sibling(0)
        (end,) = train_together([trainer], [start], 1)
        assert isinstance(end, Point)
        ends.append(end)
        assert str(trainer.network.vector.device) == device
    assert ends[0].history[0].loss == pytest.approx(ends[1].history[0].loss, rel=0.01)
    assert distance_of_replays(siblings("resnet20", "sgd", "fp32", device=LAST_DEVICE), backend_of(LAST_DEVICE)) < 0.02
