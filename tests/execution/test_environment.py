"""The environment of a task: the data, networks and probe of a setting, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import harness
import toys
from harness import Recipe, Setting
from harness.errors import PluginFailed, UserError
from harness.execution.environment import TaskEnvironment
from harness.networks.evaluation import predict_batch


def environment(tmp_path: Path, *more: tuple[str, type], architecture: Any = None, dataset: Any = None) -> TaskEnvironment:
    """Return the environment of a setting of toys on the CPU."""
    setting = Setting(dataset or toys.Blobs(), architecture or toys.Perceptron(), Recipe(epochs=2, batch_size=16))
    return TaskEnvironment(toys.catalogue(*more), setting.spec, tmp_path, torch.device("cpu"))


def test_environment_of_toys(tmp_path: Path) -> None:
    """It has the data set's splits, labels and normalized images; equal streams give equal networks."""
    found = environment(tmp_path)
    assert (len(found.train), len(found.test), found.num_classes) == (96, 64, 4)
    assert torch.equal(found.labels, found.train.labels)
    pixels = found.train.images[:5].float() / 255
    torch.testing.assert_close(found.train_images.take(torch.arange(5)), (pixels - 0.5) / 0.25)
    assert torch.equal(found.network(1).vector, found.network(1).vector)
    assert not torch.equal(found.network(1).vector, found.network(2).vector)
    assert found.architecture_label == "architecture 'perceptron' of plugin 'toys' of distribution 'tests 0'"


def test_data_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    """The error says that the data set is not the one of the task."""
    spec = Setting(toys.Blobs(), toys.Perceptron(), Recipe()).spec
    other = replace(spec, dataset={**spec.dataset, "fingerprint": "blobs-0"})
    with pytest.raises(UserError, match="data set 'blobs' is not the one the task was made for: its fingerprint differs"):
        TaskEnvironment(toys.catalogue(), other, tmp_path, torch.device("cpu"))


def test_data_set_that_loads_fewer_images_than_planned(tmp_path: Path) -> None:
    """The error names the data set, the number of images loaded, and `train_size`."""

    class Short(toys.Blobs):
        name = "short"
        train_size = 100

    with pytest.raises(PluginFailed, match=r"dataset 'short' .*: load gave 96 training images; train_size is 100"):
        environment(tmp_path, ("dataset", Short), dataset=Short())


def test_network_that_depends_on_an_attribute(tmp_path: Path) -> None:
    """If training changes the attribute, the stored weights are refused, and the error names the attribute."""

    class ScaledLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 4)
            self.scale = 1.0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(images.flatten(1)) * self.scale

    class Scaled(harness.Architecture):
        name = "scaled"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return ScaledLinear()

    found = environment(tmp_path, ("architecture", Scaled), architecture=Scaled())
    trained = found.network(1)
    found.check_stored(trained, trained.state())
    trained.module.scale = 3.0
    with pytest.raises(PluginFailed, match="it depends on 'scale', which the state dict does not hold"):
        found.check_stored(trained, trained.state())


def test_probe_computes_what_a_loaded_state_computes(tmp_path: Path) -> None:
    """The fresh network to which the stored weights are loaded gives the logits of the trained one."""
    found = environment(tmp_path)
    trained = found.network(5)
    found.check_stored(trained, trained.state())
    assert torch.equal(predict_batch(found.probe, found.probe_images), predict_batch(trained, found.probe_images))
