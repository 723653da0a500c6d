"""Evaluations that the tests of devices share: logits, points of a simplex, running statistics."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fake_device import FakeDevice
from harness import Split
from harness.networks.evaluation import NormalizedImages, predict
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness.registry.catalogue import load_catalogue
from siblings import images
from training.device_cases import BatchNormNetwork, build

POINTS = [np.array(point) for point in ([1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5])]
"""A member, the middle of an edge, and a point within the simplex."""


def normalized(device: str) -> NormalizedImages:
    """Return the images on a device."""
    return NormalizedImages(Split(*images()), ((0.5,) * 3, (0.25,) * 3), torch.device(device))


def logits(name: str, device: str, fake: FakeDevice | None = None) -> Tensor:
    """Return the logits of a network; on a fake device, raise an error if that waits."""
    network = FlatNetwork(build(name), device)
    pictures = normalized(device)
    with fake.no_waiting() if fake else nullcontext():
        found = predict(network, pictures)
    return found.cpu()


class ClampedNetwork(BatchNormNetwork):
    """A network with an infinite bound among its buffers, and one integer buffer on which nothing depends."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([torch.inf]))
        self.register_buffer("passes", torch.tensor([0]))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp(max=self.bound))


def members() -> list[nn.Module]:
    """Return members whose running statistics and integer buffers differ."""
    found = []
    for member in range(3):
        torch.manual_seed(member)
        module = ClampedNetwork()
        module.passes += member
        module(torch.randn(16, 3, 16, 16))
        found.append(module)
    return found


def values_on_simplex(device: str) -> list[np.ndarray]:
    """Return logits and correct predictions at points of the simplex, with both kinds of running statistics."""
    states = [module.state_dict() for module in members()]
    pictures = normalized(device)
    network = InterpolatedNetwork(
        FlatNetwork(ClampedNetwork(), device),
        states,
        pictures,
        pictures,
        splits=lambda name: (Split(*images()), pictures),
        corrections=partial(load_catalogue().choose, "correction"),
    )
    assert network.has_running_statistics
    labels = images()[1].numpy()
    found = []
    for point in POINTS:
        for correction in (None, "none", "repair"):
            found += [network.correct(point, labels, correction), network.logits(point, "test", correction)]
    found += [value.numpy() for value in network.state_dict(1).values()]
    return found
