"""Infinite values in a state (bounds of a clamp, initial minima) are compared and interpolated like others."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness import Split
from harness.networks.evaluation import NormalizedImages, differ
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, inf, -inf], [1.0, inf, -inf], False),
        ([1.0, inf], [1.00001, inf], False),
        ([1.0, inf], [1.1, inf], True),
        ([1.0, inf], [1.0, -inf], True),
        ([1.0, inf], [1.0, 5.0], True),
        ([1.0, 5.0], [1.0, inf], True),
        ([1.0, nan], [1.0, nan], False),
        ([1.0, nan], [1.0, 2.0], True),
        ([1.0, 2.0], [1.0, nan], True),
        ([nan, inf], [inf, nan], True),
    ],
)
def test_comparison_of_infinite_values(one: list[float], other: list[float], expected: bool) -> None:
    """An infinity differs from everything but itself, and does not hide a difference of finite values."""
    assert differ(torch.tensor(one), torch.tensor(other)) is expected


class Clamped(nn.Module):
    """A classifier of 2×2 images into 2 classes that clamps its logits to bounds."""

    def __init__(self, low: float = -inf, high: float = inf) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).clamp(self.low, self.high)


def interpolated(*modules: nn.Module) -> InterpolatedNetwork:
    images = torch.arange(32, dtype=torch.uint8).view(8, 1, 2, 2)
    split = NormalizedImages(Split(images, torch.arange(8) % 2), ((0.5,), (0.5,)), torch.device("cpu"))
    states = [FlatNetwork(module).state() for module in modules]
    return InterpolatedNetwork(FlatNetwork(Clamped()), states, split, split)


@pytest.mark.parametrize("point", [[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
def test_infinite_bounds_between_members(point: list[float]) -> None:
    """Bounds that all members share are unchanged at every point, also if a member has weight 0."""
    network = interpolated(Clamped(), Clamped(), Clamped())
    network.move(np.array(point))
    module = network.network.module
    assert (float(module.low), float(module.high)) == (-inf, inf)
    expected = sum(weight * row for weight, row in zip(point, network.matrix, strict=True))
    finite = expected.isfinite()
    torch.testing.assert_close(network.network.vector[finite], expected[finite])


def test_bound_that_one_member_lacks() -> None:
    """The infinite bound has an effect only at points where its member has a positive weight."""
    network = interpolated(Clamped(-1.0, 1.0), Clamped(-2.0, 2.0), Clamped())
    module = network.network.module
    network.move(np.array([0.5, 0.5, 0.0]))
    assert (float(module.low), float(module.high)) == (-1.5, 1.5)
    network.move(np.array([0.25, 0.5, 0.25]))
    assert (float(module.low), float(module.high)) == (-inf, inf)
