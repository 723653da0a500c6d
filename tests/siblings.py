"""Small trainings for the tests of the loop and of capture: perceptrons on blobs, convolutions and attention on noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import toys
from harness import Augmentation, Objective, Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.training.augmentation import Augmenter
from harness.training.loop import Point, Rules, Trainer
from harness.training.schedule import learning_rate
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation, DistillationOptions
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork

STILL = Augmentation(crop_padding=0, horizontal_flip=False, brightness=0, contrast=0, saturation=0)
SHAPE, CLASSES, IMAGES = (3, 16, 16), 5, 192


def perceptron(member: int, **options: Any) -> nn.Module:
    """Return a sibling's perceptron for blobs."""
    with streams.seeded(streams.key("init", 0, member)):
        return toys.Perceptron(toys.Perceptron.Options(**options)).build((1, 4, 4), 4)


def network(kind: str, member: int = 0, channels: int = 8) -> nn.Module:
    """Return a sibling's convolutional network, or Vision Transformer with dropout, for the images below."""
    with streams.seeded(streams.key("init", 1, member)):
        if kind == "resnet20":
            return ResNet20Network(channels, SHAPE, CLASSES)
        return ViTNetwork(SHAPE, CLASSES, patch=4, width=32, mlp=64, depth=2, heads=4, dropout=0.2, attention_dropout=0.2)


def images() -> tuple[Tensor, Tensor]:
    """Return images uint8 (n, 3, 16, 16) whose brightness tells their class, and the labels."""
    labels = torch.arange(IMAGES) % CLASSES
    noise = streams.bits(streams.key("noise"), torch.arange(IMAGES * 3 * 16 * 16)).view(IMAGES, *SHAPE) & 127
    return (noise + 25 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


class Family:
    """Siblings of one recipe: what each is made of, so that they can be trained alone, together and again."""

    def __init__(self, kind: str, recipe: Recipe, device: str = "cpu", *, distilled: bool = False, **options: Any) -> None:
        self.kind, self.recipe, self.device, self.distilled, self.options = kind, recipe, device, distilled, options
        if kind == "perceptron":
            train, _ = toys.Blobs().load(Path())
            pictures, labels, normalization = train.images, train.labels, toys.Blobs.normalization
        else:
            (pictures, labels), normalization = images(), ((0.5,) * 3, (0.25,) * 3)
        self.augmenter = Augmenter(pictures, recipe.augmentation, *normalization, device=device)
        self.labels = labels.to(device)

    def module(self, member: int) -> nn.Module:
        """Return a freshly initialized network."""
        return perceptron(member, **self.options) if self.kind == "perceptron" else network(self.kind, member, **self.options)

    def sibling(self, member: int, module: nn.Module | None = None) -> tuple[Trainer, Point]:
        """Return a sibling's trainer and the point that it starts from; its network is `module` if given."""
        flat = FlatNetwork(module or self.module(member), self.device, gradient=True)
        rate = learning_rate(self.recipe, self.recipe.steps_per_epoch(len(self.labels)))
        objective: Objective = Distillation(DistillationOptions(beta=0.3)) if self.distilled else CrossEntropy()
        teacher = FlatNetwork(self.module(member + 10).eval(), self.device) if self.distilled else None
        rules = Rules(self.recipe, objective, rate, ("order", 0, member))
        return Trainer(flat, self.augmenter, self.labels, rules, teacher), Point(0, flat.state())


def same(left: Point, right: Point) -> bool:
    """Say whether two points are equal to the bit, their history but for the seconds included."""
    weights = all(torch.equal(left.weights[name], right.weights[name]) for name in right.weights)
    memory = all(torch.equal(left.memory[m][n], right.memory[m][n]) for m in right.memory for n in right.memory[m])
    told = [[(r.epoch, r.loss, r.accuracy, r.learning_rate) for r in p.history] for p in (left, right)]
    return weights and memory and told[0] == told[1] and (left.step, left.loss_sum) == (right.step, right.loss_sum)
