"""Evaluation mixes no devices and waits only where results are copied; on a device it computes what it does on the CPU."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fake_device import FakeDevice
from harness import Split
from harness.networks.evaluation import NormalizedImages, predict
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness.networks.recomputation import recomputed
from siblings import CLASSES, images
from training.device_cases import NETWORKS, BatchNormNetwork, build

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


@pytest.mark.parametrize("name", NETWORKS)
def test_logits(name: str) -> None:
    """They are those of the CPU, to the bit, and nothing waits for them."""
    with FakeDevice() as device:
        found = logits(name, "maia", device)
    assert torch.equal(found, logits(name, "cpu"))


def test_attention_as_on_a_gpu() -> None:
    """The Vision Transformer's branch for GPUs, torch's fused attention, agrees to rounding."""
    with FakeDevice(like_cuda=True) as device:
        found = logits("vit", "maia", device)
    expected = logits("vit", "cpu")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, expected)


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
        FlatNetwork(ClampedNetwork(), device), states, pictures, pictures, splits=lambda name: (Split(*images()), pictures)
    )
    assert network.has_running_statistics
    labels = images()[1].numpy()
    found = []
    for point in POINTS:
        for batchnorm in ("recompute", "interpolate"):
            found += [network.correct(point, labels, batchnorm), network.logits(point, "test", batchnorm)]
    found += [value.numpy() for value in network.state_dict(1).values()]
    return found


def test_interpolated_points() -> None:
    """Members and points between them are equal to the bit; results are copied once per point, in one function."""
    with FakeDevice() as device:
        found = values_on_simplex("maia")
    for one, other in zip(found, values_on_simplex("cpu"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1].shape == (len(images()[1]), CLASSES)
    assert device.to_host == {"host_copy.to_host"}
    assert device.reads == {
        "interpolation.InterpolatedNetwork.__init__",
        "interpolation.InterpolatedNetwork.move",
        "interpolation.InterpolatedNetwork._require_common_buffers",
        "running_statistics.RunningStatistics._changed_by",
        "running_statistics.RunningStatistics._averages_among",
        "running_statistics._weight",
    }


def test_recomputation_does_not_wait() -> None:
    """The passes over the sample read nothing back and copy nothing, not even the sample's indices."""
    states = [module.state_dict() for module in members()]
    with FakeDevice() as device:
        pictures = normalized("maia")
        network = InterpolatedNetwork(FlatNetwork(ClampedNetwork(), "maia"), states, pictures, pictures)
        before = network.network.vector.clone()
        with device.no_waiting():
            network.statistics.recompute()
        assert not torch.equal(network.network.vector, before)


def test_recomputed_statistics() -> None:
    """Running statistics that fit given weights are equal to the bit."""
    state = members()[0].state_dict()
    with FakeDevice() as device:
        found = recomputed(FlatNetwork(ClampedNetwork(), "maia"), state, normalized("maia"))
    expected = recomputed(FlatNetwork(ClampedNetwork()), state, normalized("cpu"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["norm.running_mean"], state["norm.running_mean"])
    assert device.to_host == {"host_copy.to_host"}
