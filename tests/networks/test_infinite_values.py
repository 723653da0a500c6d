"""Infinite values in a state (bounds of a clamp, minima not yet seen) are values like others: compared and interpolated."""

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
    """They are equal to themselves alone, and hide no difference of the finite ones."""
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
    """Bounds that all members share hold everywhere, also where a member has no weight."""
    between = interpolated(Clamped(), Clamped(), Clamped())
    between.move(np.array(point))
    module = between.network.module
    assert (float(module.low), float(module.high)) == (-inf, inf)
    expected = sum(weight * row for weight, row in zip(point, between.matrix, strict=True))
    finite = expected.isfinite()
    torch.testing.assert_close(between.network.vector[finite], expected[finite])


def test_bound_that_one_member_lacks() -> None:
    """It counts where that member has weight, and nowhere else."""
    between = interpolated(Clamped(-1.0, 1.0), Clamped(-2.0, 2.0), Clamped())
    module = between.network.module
    between.move(np.array([0.5, 0.5, 0.0]))
    assert (float(module.low), float(module.high)) == (-1.5, 1.5)
    between.move(np.array([0.25, 0.5, 0.25]))
    assert (float(module.low), float(module.high)) == (-inf, inf)
