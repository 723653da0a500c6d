"""Toy plugins for tests: a data set of 4×4 images, and a perceptron with optional BatchNorm and dropout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import harness
from harness import Architecture, Dataset, Split, streams
from harness.registry.catalogue import Catalogue, Registration, load_catalogue
from harness.registry.discovery import Source

PLUGIN = Source("toys", "tests 0")


class Blobs(Dataset):
    """Four classes of noisy 4×4 images: `size` for training, 64 for testing."""

    name = "blobs"
    shape = (1, 4, 4)
    num_classes = 4
    fingerprint = "blobs-1"
    normalization = ((0.5,), (0.25,))

    class Options(harness.Options):
        """Options."""

        size: int = 96

    @property
    def train_size(self) -> int:
        return self.options.size

    def load(self, root: Path) -> tuple[Split, Split]:
        return self._split("train", self.options.size), self._split("test", 64)

    def _split(self, name: str, n: int) -> Split:
        labels = torch.arange(n) % 4
        noise = streams.uniform(streams.key("blobs", name), torch.arange(n * 16)).view(n, 1, 4, 4)
        pattern = streams.uniform(streams.key("patterns"), torch.arange(64)).view(4, 1, 4, 4)[labels]
        return Split(((0.5 * pattern + 0.5 * noise) * 255).to(torch.uint8), labels)


class Perceptron(Architecture):
    """One hidden layer, with optional BatchNorm and dropout."""

    name = "perceptron"

    class Options(harness.Options):
        """Options."""

        width: int = 12
        batchnorm: bool = False
        dropout: float = 0.0

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        channels, height, width = shape
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * height * width, self.options.width)]
        if self.options.batchnorm:
            layers.append(nn.BatchNorm1d(self.options.width))
        layers.append(nn.ReLU())
        if self.options.dropout:
            layers.append(nn.Dropout(self.options.dropout))
        return nn.Sequential(*layers, nn.Linear(self.options.width, num_classes))


def catalogue(*more: tuple[str, type]) -> Catalogue:
    """Return a catalogue of the installed plugins, the toys, and more (kind, class) pairs.

    Of several classes of one kind and name, the last one is registered.
    """
    toys: dict[tuple[str, str], type] = {}
    for kind, cls in (("dataset", Blobs), ("architecture", Perceptron), *more):
        toys[kind, cls.name] = cls
    registrations = [Registration(kind, name, cls, PLUGIN) for (kind, name), cls in toys.items()]
    return Catalogue([*load_catalogue(), *registrations])
