"""A setting made real: what is built of it, and what is refused."""

from __future__ import annotations

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
    """Return the environment of a setting of toys."""
    setting = Setting(dataset or toys.Blobs(), architecture or toys.Perceptron(), Recipe(epochs=2, batch_size=16))
    return TaskEnvironment(toys.catalogue(*more), setting.spec, tmp_path, torch.device("cpu"))


def test_environment_holds_data_and_builds_networks(tmp_path: Path) -> None:
    """Splits, labels and normalized images are the data set's; networks differ by their stream alone."""
    found = environment(tmp_path)
    assert (len(found.train), len(found.test), found.num_classes) == (96, 64, 4)
    assert torch.equal(found.labels, found.train.labels)
    pixels = found.train.images[:5].float() / 255
    torch.testing.assert_close(found.train_images.take(torch.arange(5)), (pixels - 0.5) / 0.25)
    assert torch.equal(found.network(1).vector, found.network(1).vector)
    assert not torch.equal(found.network(1).vector, found.network(2).vector)
    assert found.architecture_label == "architecture 'perceptron' of plugin 'toys' of distribution 'tests 0'"


def test_data_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    """A worker whose data set is not the one that the task was made for says so."""
    spec = Setting(toys.Blobs(), toys.Perceptron(), Recipe()).spec
    other = spec.model_copy(update={"dataset": {**spec.dataset, "fingerprint": "blobs-0"}})
    with pytest.raises(UserError, match="data set 'blobs' is not the one the task was made for: its fingerprint differs"):
        TaskEnvironment(toys.catalogue(), other, tmp_path, torch.device("cpu"))


def test_data_set_that_loads_fewer_images_is_refused(tmp_path: Path) -> None:
    """`train_size` is part of the plan, so `load` must agree with it."""

    class Short(toys.Blobs):
        name = "short"
        train_size = 100

    with pytest.raises(PluginFailed, match=r"dataset 'short' .*: load gave 96 training images; train_size is 100"):
        environment(tmp_path, ("dataset", Short), dataset=Short())


def test_stored_weights_that_lack_something_are_refused(tmp_path: Path) -> None:
    """A network whose function depends on an attribute that training changes is named with the attribute."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 4)
            self.scale = 1.0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(images.flatten(1)) * self.scale

    class Scaled(harness.Architecture):
        name = "scaled"

        def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
            return Counting()

    found = environment(tmp_path, ("architecture", Scaled), architecture=Scaled())
    trained = found.network(1)
    found.check_stored(trained, trained.state())
    trained.module.scale = 3.0
    with pytest.raises(PluginFailed, match="it depends on 'scale', which the state dict does not hold"):
        found.check_stored(trained, trained.state())


def test_probe_computes_what_a_loaded_state_computes(tmp_path: Path) -> None:
    """The fresh network that states are compared with gives the trained one's logits."""
    found = environment(tmp_path)
    trained = found.network(5)
    found.check_stored(trained, trained.state())
    assert torch.equal(predict_batch(found.probe, found.probe_images), predict_batch(trained, found.probe_images))
