"""Evaluation mixes no devices and waits only where results are copied; on a device it computes what it does on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fake_device import FakeDevice
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness.networks.recomputation import recomputed
from networks.evaluated import ClampedNetwork, logits, members, normalized, values_on_simplex
from siblings import CLASSES, images
from training.device_cases import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_logits(name: str) -> None:
    """They are those of the CPU, to the bit, and nothing waits for them."""
    with FakeDevice() as device:
        found = logits(name, "ipu", device)
    assert torch.equal(found, logits(name, "cpu"))


def test_attention_as_on_a_gpu() -> None:
    """The Vision Transformer's branch for GPUs, torch's fused attention, agrees to rounding."""
    with FakeDevice(like_cuda=True) as device:
        found = logits("vit", "ipu", device)
    expected = logits("vit", "cpu")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found, expected)


def test_interpolated_points() -> None:
    """Members and points between them are equal to the bit; results are copied once per point, in one function."""
    with FakeDevice() as device:
        found = values_on_simplex("ipu")
    for one, other in zip(found, values_on_simplex("cpu"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1].shape == (len(images()[1]), CLASSES)
    assert device.to_host == {"host_copy.to_host"}
    assert device.reads == {
        "interpolation.InterpolatedNetwork.__init__",
        "interpolation.InterpolatedNetwork._mix",
        "interpolation.InterpolatedNetwork._require_common_buffers",
        "running_statistics.RunningStatistics._changed_by",
        "running_statistics.RunningStatistics._averages_among",
        "running_statistics._weight",
    }


def test_recomputation_does_not_wait() -> None:
    """The passes over the sample read nothing back and copy nothing, not even the sample's indices."""
    states = [module.state_dict() for module in members()]
    with FakeDevice() as device:
        pictures = normalized("ipu")
        network = InterpolatedNetwork(FlatNetwork(ClampedNetwork(), "ipu"), states, pictures, pictures)
        before = network.network.vector.clone()
        with device.no_waiting():
            network.statistics.recompute()
        assert not torch.equal(network.network.vector, before)


def test_recomputed_statistics() -> None:
    """Running statistics that fit given weights are equal to the bit."""
    state = members()[0].state_dict()
    with FakeDevice() as device:
        found = recomputed(FlatNetwork(ClampedNetwork(), "ipu"), state, normalized("ipu"))
    expected = recomputed(FlatNetwork(ClampedNetwork()), state, normalized("cpu"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(found["norm.running_mean"], state["norm.running_mean"])
    assert device.to_host == {"host_copy.to_host"}
