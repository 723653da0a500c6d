"""Short trainings that measure how long an epoch takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harness
import toys
from conftest import RECIPE
from harness.errors import UserError
from harness.execution.calibration import CalibrationPlace, calibrate
from harness.plan.duration_model import plugin_name
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue

GraphOf = Callable[..., Graph]
STEP_SECONDS = 0.01


class Slow(harness.Architecture):
    """A perceptron whose forward pass takes 10 ms."""

    name = "slow"

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return Sleeper(nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes)))


class Sleeper(nn.Module):
    """Waits before it computes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(STEP_SECONDS)
        result: torch.Tensor = self.inner(images)
        return result


def place(catalogue: Catalogue, data: Path, device: str = "cpu") -> CalibrationPlace:
    """Return a place on the CPU."""
    return CalibrationPlace(catalogue, data, device)


def test_seconds_of_an_epoch(graph_of: GraphOf, tmp_path: Path) -> None:
    """An epoch takes its steps times the seconds of a step, also if it has fewer steps than are measured at a time."""
    catalogue = toys.catalogue(("architecture", Slow))
    graph = graph_of(catalogue, architectures=["slow"], methods=["deep"], recipe={**RECIPE, "batch_size": 4})
    found = list(calibrate(graph.tasks.values(), place(catalogue, tmp_path)))
    kinds = [one.timing.work.kind for one in found]
    assert kinds == ["train", "predict"]
    training = found[0]
    assert training.steps == 24  # 96 images
    assert 24 * STEP_SECONDS <= training.timing.seconds < 3 * 24 * STEP_SECONDS
    assert training.timing.device.startswith("cpu (")
    assert found[1].timing.seconds >= STEP_SECONDS


def test_each_class_once(graph_of: GraphOf, tmp_path: Path) -> None:
    """Each objective is measured, with an untrained teacher, however many trainings there are; a network is predicted once."""
    methods = ["deep", "distilled_deep", "swe", {"constrained": {"fork_epoch": 3}}]
    graph = graph_of(methods=methods, seeds=[0, 1])
    found = list(calibrate(graph.tasks.values(), place(toys.catalogue(), tmp_path)))
    names = [(one.timing.work.kind, plugin_name(one.timing.work.plugin)) for one in found]
    assert names == [("train", "cross_entropy"), ("predict", ""), ("train", "distillation")]
    assert all(one.timing.seconds > 0 for one in found)


def test_training_of_a_single_step(graph_of: GraphOf, tmp_path: Path) -> None:
    """It is measured without a warm-up."""
    graph = graph_of(methods=["deep"], recipe={**RECIPE, "epochs": 1, "batch_size": 96})
    (training, _) = calibrate(graph.tasks.values(), place(toys.catalogue(), tmp_path))
    assert training.steps == 1
    assert training.timing.seconds > 0


def test_training_that_diverges(graph_of: GraphOf, tmp_path: Path) -> None:
    """Its steps take as long as those of another one, so they are measured."""
    graph = graph_of(methods=["deep"], recipe={**RECIPE, "learning_rate": 1e12, "warmup": 0.0, "batch_size": 4})
    (training, _) = calibrate(graph.tasks.values(), place(toys.catalogue(), tmp_path))
    assert training.steps > 0


def test_nothing_to_train(tmp_path: Path) -> None:
    """Nothing is measured."""
    assert list(calibrate([], place(toys.catalogue(), tmp_path))) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_device_that_is_missing(graph_of: GraphOf, tmp_path: Path) -> None:
    """The message says what to use instead."""
    graph = graph_of(methods=["deep"])
    with pytest.raises(UserError, match=r"^--device cuda: no CUDA device is available here.*; use --device cpu"):
        list(calibrate(graph.tasks.values(), place(toys.catalogue(), tmp_path, "cuda")))


def test_data_that_are_missing(graph_of: GraphOf, tmp_path: Path) -> None:
    """The message is that of a run."""

    class Absent(toys.Blobs):
        name = "absent"

        def load(self, root: Path) -> Any:
            raise FileNotFoundError(root / "absent.bin")

    catalogue = toys.catalogue(("dataset", Absent))
    graph = graph_of(catalogue, datasets=["absent"], methods=["deep"])
    with pytest.raises(harness.errors.HarnessError, match=r"absent\.bin"):
        list(calibrate(graph.tasks.values(), place(catalogue, tmp_path)))
