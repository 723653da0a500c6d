"""Small trainings for the tests of the loop: perceptrons on blobs, convolutional networks and transformers on noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import toys
from harness import Augmentation, Objective, Recipe, streams
from harness.errors import TaskFailed
from harness.networks.flat_network import FlatNetwork
from harness.training.augmentation import Augmenter
from harness.training.loop import AfterEpoch, train_together
from harness.training.point import Point
from harness.training.schedule import learning_rate
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation, DistillationOptions
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

STILL = Augmentation(crop_padding=0, horizontal_flip=False, brightness=0, contrast=0, saturation=0)
SHAPE, CLASSES, IMAGES = (3, 16, 16), 5, 192


def perceptron(member: int, **options: Any) -> nn.Module:
    """Return a member's perceptron for blobs."""
    with streams.seeded(streams.key("init", 0, member)):
        return toys.Perceptron(toys.Perceptron.Options(**options)).build((1, 4, 4), 4)


def network(kind: str, member: int = 0, channels: int = 8) -> nn.Module:
    """Return a member's ResNet20 or Vision Transformer with dropout, for the images below."""
    with streams.seeded(streams.key("init", 1, member)):
        if kind == "resnet20":
            return ResNet20Network(channels, SHAPE, CLASSES)
        return ViTNetwork(SHAPE, CLASSES, patch=4, width=32, mlp=64, depth=2, heads=4, dropout=0.2, attention_dropout=0.2)


def images() -> tuple[Tensor, Tensor]:
    """Return images, uint8 (n, 3, 16, 16), whose brightness depends on the class, and their labels (n,)."""
    labels = torch.arange(IMAGES) % CLASSES
    noise = streams.bits(streams.key("noise"), torch.arange(IMAGES * 3 * 16 * 16)).view(IMAGES, *SHAPE) & 127
    return (noise + 25 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


class Family:
    """Makes siblings of one recipe, any number of times, so that they can be trained alone and together."""

    def __init__(self, kind: str, recipe: Recipe, device: str = "cpu", *, distilled: bool = False, **options: Any) -> None:
        self.kind = kind
        self.recipe = recipe
        self.device = device
        self.distilled = distilled
        self.options = options
        normalization = ((0.5,) * 3, (0.25,) * 3)
        pictures, labels = images()
        if kind == "perceptron":
            train, _ = toys.Blobs().load(Path())
            pictures, labels, normalization = train.images, train.labels, toys.Blobs.normalization
        self.augmenter = Augmenter(pictures, recipe.augmentation, *normalization, device=device)
        self.labels = labels.to(device)

    def module(self, member: int) -> nn.Module:
        """Return a freshly initialized network."""
        if self.kind == "perceptron":
            return perceptron(member, **self.options)
        return network(self.kind, member, **self.options)

    def sibling(self, member: int, module: nn.Module | None = None) -> tuple[Trainer, Point]:
        """Return a sibling's trainer and start; its network is `module` if given."""
        flat = FlatNetwork(module or self.module(member), self.device, gradient=True)
        rate = learning_rate(self.recipe, self.recipe.steps_per_epoch(len(self.labels)))
        objective: Objective = CrossEntropy()
        teacher = None
        if self.distilled:
            objective = Distillation(DistillationOptions(beta=0.3))
            teacher = FlatNetwork(self.module(member + 10).eval(), self.device)
        rules = Rules(self.recipe, objective, rate, ("order", 0, member))
        return Trainer(flat, self.augmenter, self.labels, rules, teacher), Point(0, flat.state())


def same(left: Point, right: Point) -> bool:
    """Return whether two points are equal to the bit, except for the seconds of their epochs."""
    if (left.step, left.loss_sum) != (right.step, right.loss_sum) or results(left) != results(right):
        return False
    if not equal(left.weights, right.weights) or left.memory.keys() != right.memory.keys():
        return False
    return all(equal(left.memory[name], right.memory[name]) for name in right.memory)


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Return whether two state dicts have equal tensors."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in right)


def results(point: Point) -> list[tuple[int, float, float, float]]:
    """Return the results of a point's epochs."""
    return [(record.epoch, record.loss, record.accuracy, record.learning_rate) for record in point.history]


def train_alone(trainer: Trainer, start: Point, until: int, *, after_epoch: AfterEpoch | None = None, **options: Any) -> Point:
    """Train one network to the end of epoch `until`; return the point reached. Raise its `TaskFailed` if it diverges.

    `options` are those of `train_together`.
    """
    listeners = None if after_epoch is None else [after_epoch]
    (end,) = train_together([trainer], [start], until, after_epoch=listeners, **options)
    if isinstance(end, TaskFailed):
        raise end
    return end
