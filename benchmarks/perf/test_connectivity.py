"""Accuracy at points between the members of an ensemble (what q̄ is made of), against a loop over state dicts.

Both in float32. Ours is λ @ Θ into a network whose tensors are views of one vector, on channels-last images.
docs/performance.md has what was measured.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
import torch
from plain_scripts import correct_between
from test_step import KEY, plain

from harness import Split, streams
from harness.networks.evaluation import NormalizedImages
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork
from harness_vision.resnet20_network import ResNet20Network

MEMBERS, NORMALIZATION = 5, ((0.5,) * 3, (0.25,) * 3)


def members(channels: int) -> list[ResNet20Network]:
    """Return networks that differ."""
    found = []
    for j in range(MEMBERS):
        with streams.seeded(streams.key("perf", "between", j)):
            found.append(ResNet20Network(channels, (3, 32, 32), 10, same=False))
    return found


@pytest.mark.parametrize(("width", "images", "rounds"), [(1, 1000, 15), (4, 250, 7)])
def test_points_between_members_against_state_dicts(duel, width, images, rounds):
    """The same images right at the same points, sooner."""
    pictures = streams.bits(KEY, torch.arange(images * 3 * 32 * 32 // 8)).view(torch.uint8).view(-1, 3, 32, 32)
    split = Split(pictures, torch.arange(images) % 10)
    networks = members(16 * width)
    shown = NormalizedImages(split, NORMALIZATION, torch.device("cpu"))
    flat = FlatNetwork(ResNet20Network(16 * width, (3, 32, 32), 10, same=False))
    between = InterpolatedNetwork(flat, [network.state_dict() for network in networks], shown, shown)

    model, states = plain(networks[0]), [plain(network).state_dict() for network in networks]
    floats, labels = ((pictures / 255) - 0.5) / 0.25, split.labels.numpy()
    draws = np.random.default_rng(0).dirichlet(np.ones(MEMBERS), size=16)
    for point in draws[:2]:
        ours = int(between.correct(point, labels).sum())
        theirs = correct_between(model, states, point.tolist(), floats, split.labels)
        assert abs(ours - theirs) <= 1 + images // 500  # an image on the border may fall to either side

    points, others = cycle(draws), cycle(draws)
    duel(
        lambda: between.correct(next(points), labels),
        lambda: correct_between(model, states, next(others).tolist(), floats, split.labels),
        bar=1.2,
        items=(images, images),
        rounds=rounds,
    )
