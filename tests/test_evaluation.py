"""Networks between networks: what is evaluated is float32, whatever a caller has switched on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from harness.evaluation import Between, Images, predict
from harness.weights import FlatNetwork

import toys


@pytest.fixture
def between() -> Between:
    """Three perceptrons of blobs, and the way between them."""
    _, test = toys.Blobs().load(Path())
    images = Images(test, toys.Blobs.normalisation, torch.device("cpu"))
    flat = FlatNetwork(toys.Perceptron().build((1, 4, 4), 4))
    members = [torch.randn(len(flat.vector), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    return Between(flat, members, images, images)


@pytest.mark.parametrize("cache", [True, False])
def test_autocast_around_an_evaluation_changes_nothing(between: Between, cache: bool) -> None:
    """Neither its precision nor the weights that it keeps, which would be those of the first point."""
    points = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    labels = np.zeros(len(between.test.images), dtype=np.int64)

    def logits() -> list[torch.Tensor]:
        found = []
        for point in points:
            between.correct(point, labels)
            found.append(predict(between.network, between.test))
        return found

    wanted = logits()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
        assert all(torch.equal(found, right) for found, right in zip(logits(), wanted, strict=True))
    assert not torch.equal(wanted[0], wanted[1])


def test_point_is_the_combination_of_the_members(between: Between) -> None:
    """λ @ Θ, and a corner is that member to the bit."""
    point = np.array([0.2, 0.3, 0.5])
    between.move(point)
    wanted = sum(float(weight) * member for weight, member in zip(point, between.matrix, strict=True))
    torch.testing.assert_close(between.network.vector, wanted)
    between.move(np.array([0.0, 1.0, 0.0]))
    assert torch.equal(between.network.vector, between.matrix[1])
