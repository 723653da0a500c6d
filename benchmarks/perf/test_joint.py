"""The cost of coupling trainings, beside that of the same trainings without the coupling, in one run.

Processor time of one epoch of all members. Without the coupling they are trained one after another, as a run on the CPU does.
`extra_info` has the ratio of the two.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from harness import Coupling, Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.training.augmentation import Augmenter
from harness.training.joint import JointTraining, OnOneBatch, SideBySide
from harness.training.loop import train_together
from harness.training.mixture import AtMixtures
from harness.training.point import Point
from harness.training.schedule import learning_rate
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.repulsion import Repulsion
from harness_basin.populations.couplings.shuffle import Shuffle
from harness_vision.resnet20_network import ResNet20Network

MEMBERS, IMAGES, BATCH, ROUNDS = 3, 320, 32, 7
SHAPE, CLASSES = (1, 8, 8), 10
RECIPE = Recipe(epochs=1, batch_size=BATCH, learning_rate=0.05)
COUPLINGS: dict[str, Coupling] = {
    "pull": Pull(),
    "shuffle": Shuffle(),
    "random_mixture": Mixture(),
    "repulsion": Repulsion(),
    "mutual_distillation": MutualDistillation(),
}


def members() -> tuple[list[Trainer], list[Point]]:
    """Return trainers of the quickstart's ResNet20 of half width on random digits, and their starts."""
    numbers = streams.bits(streams.key("images"), torch.arange(IMAGES * 64))
    images = (numbers & 255).to(torch.uint8).view(IMAGES, *SHAPE)
    labels = torch.arange(IMAGES) % CLASSES
    augmenter = Augmenter(images, RECIPE.augmentation, (0.5,), (0.25,))
    rate = learning_rate(RECIPE, RECIPE.steps_per_epoch(IMAGES))
    trainers, starts = [], []
    for member in range(MEMBERS):
        with streams.seeded(streams.key("init", member)):
            network = FlatNetwork(ResNet20Network(8, SHAPE, CLASSES), gradient=True)
        rules = Rules(RECIPE, CrossEntropy(), rate, ("order", 0, 0))
        trainers.append(Trainer(network, augmenter, labels, rules))
        starts.append(Point(0, network.state()))
    return trainers, starts


def coupled(coupling: Coupling) -> Callable[[], Any]:
    """Return a function that trains one epoch of all members with a coupling."""
    trainers, starts = members()
    training: JointTraining = SideBySide(trainers, coupling, ("coupling",))
    if coupling.mixes:
        training = AtMixtures(trainers[0], MEMBERS, coupling, ("coupling",))
    if coupling.shares_batch:
        training = OnOneBatch(trainers, coupling, ("coupling",))
    return lambda: training.run(starts, 1)


def uncoupled() -> Callable[[], Any]:
    """Return a function that trains one epoch of all members, one after another."""
    trainers, starts = members()

    def train() -> None:
        for trainer, start in zip(trainers, starts, strict=True):
            train_together([trainer], [start], 1)

    return train


def seconds(function: Callable[[], Any]) -> float:
    """Return the processor time of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def ratio(functions: Sequence[Callable[[], Any]]) -> float:
    """Return the median of the ratios of the two functions' times, taken in turn."""
    for function in functions:
        function()
    return statistics.median(seconds(functions[0]) / seconds(functions[1]) for _ in range(ROUNDS))


@pytest.mark.parametrize("name", COUPLINGS)
def test_cost_of_a_coupling(benchmark: Any, name: str) -> None:
    """A coupled epoch takes at most 1.1 times that of the members alone; at mixtures, it takes less than one per member."""
    coupling = COUPLINGS[name]
    train, alone = coupled(coupling), uncoupled()
    benchmark.pedantic(train, rounds=1, warmup_rounds=1)
    found = ratio([train, alone])
    benchmark.extra_info["ratio"] = round(found, 3)
    assert found <= 1.1
