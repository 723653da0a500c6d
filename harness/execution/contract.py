"""The dry pass of a training as a contract test of an architecture, on random images with a simple loss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import streams
from harness.api import options
from harness.api.data import Split
from harness.api.interfaces import Architecture, Dataset, Objective
from harness.api.recipe import Augmentation, Recipe
from harness.api.setting import Setting
from harness.execution.dry_pass import DryPass
from harness.execution.environment import TaskEnvironment
from harness.registry.catalogue import Catalogue, Registration
from harness.registry.discovery import Source

_IMAGES = 16  # images per split


class RandomImages(Dataset):
    """Random images of any shape with labels of any number of classes."""

    name, version, fingerprint = "random_images", 1, "random"
    train_size = _IMAGES

    class Options(options.Options):
        """The shape, (channels, height, width), and the number of classes."""

        shape: tuple[int, int, int]
        num_classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        shape: tuple[int, int, int] = self.options.shape
        return shape

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        count: int = self.options.num_classes
        return count

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean 0.5 and deviation 0.25 in every channel."""
        channels = self.shape[0]
        return (0.5,) * channels, (0.25,) * channels

    def load(self, root: Path) -> tuple[Split, Split]:
        """Return the training and the test split; the data root is not read."""
        return self._split("train"), self._split("test")

    def _split(self, name: str) -> Split:
        channels, height, width = self.shape
        counters = torch.arange(_IMAGES * channels * height * width)
        pixels = (streams.bits(streams.key("contract", name), counters) & 255).to(torch.uint8)
        return Split(pixels.view(_IMAGES, *self.shape), torch.arange(_IMAGES) % self.num_classes)


class SquaredError(Objective):
    """Mean squared error between logits and one-hot labels."""

    name, version = "squared_error", 1

    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Return the squared error, averaged over batch and classes."""
        return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))


def try_architecture(architecture: Architecture, shape: tuple[int, int, int], num_classes: int) -> None:
    """Do the dry pass that precedes trainings of an architecture; raise `PluginFailed` for the first failing check."""
    source = Source(type(architecture).__module__, "under test")
    images = RandomImages(RandomImages.Options(shape=shape, num_classes=num_classes))
    catalogue = Catalogue(
        [
            Registration("architecture", architecture.name, type(architecture), source),
            Registration("dataset", images.name, RandomImages, source),
        ]
    )
    still = Augmentation(crop_padding=0, horizontal_flip=False)
    setting = Setting(images, architecture, Recipe(batch_size=_IMAGES, precision="fp32", augmentation=still))
    environment = TaskEnvironment(catalogue, setting.spec, Path(), torch.device("cpu"))
    DryPass(environment, SquaredError(), "objective 'squared_error'").run()
