"""The cost of collecting moments of a training's weights, beside the same training without, in one run.

Processor time of two epochs of the quickstart's ResNet20 on 1,408 digits, with 20 deviations as `swag` has by default.
`extra_info` has the ratio of the two: collecting costs the same per epoch, whatever its length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from harness import Moments, Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.training.augmentation import Augmenter
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.schedule import learning_rate
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_vision.resnet20_network import ResNet20Network

IMAGES, EPOCHS, ROUNDS = 1_408, 2, 5
SHAPE, CLASSES = (1, 8, 8), 10
RECIPE = Recipe(epochs=EPOCHS, batch_size=32, learning_rate=0.05)


def training(moments: Moments | None) -> Callable[[], Point]:
    """Return a function that trains from the same start, with or without moments."""
    numbers = streams.bits(streams.key("images"), torch.arange(IMAGES * 64))
    images = (numbers & 255).to(torch.uint8).view(IMAGES, *SHAPE)
    augmenter = Augmenter(images, RECIPE.augmentation, (0.5,), (0.25,))
    with streams.seeded(streams.key("init")):
        network = FlatNetwork(ResNet20Network(8, SHAPE, CLASSES), gradient=True)
    rate = learning_rate(RECIPE, RECIPE.steps_per_epoch(IMAGES))
    rules = Rules(RECIPE, CrossEntropy(), rate, ("order", 0, 0), moments)
    trainer = Trainer(network, augmenter, torch.arange(IMAGES) % CLASSES, rules)
    start = Point(0, network.state())
    return lambda: train_together([trainer], [start], EPOCHS)


def seconds(function: Callable[[], Any]) -> float:
    """Return the processor time of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def test_cost_of_moments(benchmark: Any) -> None:
    """Collecting after every epoch, with 20 deviations."""
    collecting, plain = training(Moments(first=1, columns=20)), training(None)
    benchmark.pedantic(collecting, rounds=1, warmup_rounds=1)
    plain()
    ratios = [seconds(collecting) / seconds(plain) for _ in range(ROUNDS)]
    benchmark.extra_info["ratio"] = round(statistics.median(ratios), 4)
    benchmark.extra_info["ratios"] = [round(ratio, 4) for ratio in ratios]
