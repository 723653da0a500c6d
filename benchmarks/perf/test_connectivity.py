"""Compare the accuracy at interpolated weights, from which q̄ is computed, with a loop over state dicts.

Both sides use float32. Ours writes λ @ Θ into the vector of a flat network and evaluates channels-last images.
docs/performance.md has the results.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
import torch
from plain_scripts import count_correct_at
from test_step import KEY, plain_copy

from harness import Split, streams
from harness.networks.evaluation import NormalizedImages
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness_vision.resnet20_network import ResNet20Network

MEMBERS = 5
NORMALIZATION = ((0.5,) * 3, (0.25,) * 3)


def members(channels: int) -> list[ResNet20Network]:
    """Return networks with different initializations."""
    networks = []
    for j in range(MEMBERS):
        with streams.seeded(streams.key("perf", "between", j)):
            networks.append(ResNet20Network(channels, (3, 32, 32), 10, same=False))
    return networks


@pytest.mark.parametrize(("width", "images", "rounds"), [(1, 1000, 15), (4, 250, 7)])
def test_points_between_members_against_state_dicts(compare, width, images, rounds):
    """Both classify the same images correctly at the same points; ours is at least 1.2 times as fast."""
    pixels = streams.bits(KEY, torch.arange(images * 3 * 32 * 32 // 8)).view(torch.uint8).view(-1, 3, 32, 32)
    split = Split(pixels, torch.arange(images) % 10)
    labels = split.labels.numpy()
    networks = members(16 * width)
    normalized = NormalizedImages(split, NORMALIZATION, torch.device("cpu"))
    flat = FlatNetwork(ResNet20Network(16 * width, (3, 32, 32), 10, same=False))
    interpolated = InterpolatedNetwork(flat, [network.state_dict() for network in networks], normalized, normalized)

    plain_model = plain_copy(networks[0])
    plain_states = [plain_copy(network).state_dict() for network in networks]
    plain_images = ((pixels / 255) - 0.5) / 0.25
    points = np.random.default_rng(0).dirichlet(np.ones(MEMBERS), size=16)
    for point in points[:2]:
        ours = int(interpolated.correct(point, labels).sum())
        theirs = count_correct_at(plain_model, plain_states, point.tolist(), plain_images, split.labels)
        assert abs(ours - theirs) <= 1 + images // 500  # rounding decides images whose two largest logits are equal

    our_points, their_points = cycle(points), cycle(points)
    compare(
        lambda: interpolated.correct(next(our_points), labels),
        lambda: count_correct_at(plain_model, plain_states, next(their_points).tolist(), plain_images, split.labels),
        bar=1.2,
        items=(images, images),
        rounds=rounds,
    )
