"""Trainings that the tests of devices share: networks of many kinds, and their siblings on any device."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from harness import Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.training.point import Point
from harness.training.trainer import Rules, Trainer
from harness_basin.distillation import Distillation, DistillationOptions
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork
from siblings import CLASSES, SHAPE, Family

AUGMENTATION = {"crop_padding": 2, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1}
"""Every operation of the augmentation."""

RECIPES = {
    "sgd": Recipe(batch_size=8, learning_rate=0.01, augmentation=AUGMENTATION, clip_norm=1.0),
    "nesterov": Recipe(batch_size=8, learning_rate=0.01, augmentation=AUGMENTATION, nesterov=True, label_smoothing=0.1),
    "plain sgd": Recipe(batch_size=8, learning_rate=0.01, augmentation=AUGMENTATION, momentum=0, weight_decay=0),
    "adam": Recipe(batch_size=8, learning_rate=1e-3, augmentation=AUGMENTATION, optimizer="adam", clip_norm=0.1),
    "adamw": Recipe(batch_size=8, learning_rate=1e-3, augmentation=AUGMENTATION, optimizer="adamw"),
}


class BatchNormNetwork(nn.Module):
    """A convolution with BatchNorm, whose batch counter is an integer buffer, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.norm(self.conv(x)).relu().mean((2, 3))))


class UnusedParameter(nn.Module):
    """A linear classifier with a parameter that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.ones(3))
        self.linear = nn.Linear(3 * 16 * 16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


def _vit() -> nn.Module:
    return ViTNetwork(SHAPE, CLASSES, patch=4, width=32, mlp=64, depth=2, heads=4, dropout=0.2, attention_dropout=0.2)


def _timm(name: str, **options: object) -> Callable[[], nn.Module]:
    """Return a function that makes a model of timm which sees the images four times as large.

    Feature maps of one pixel are avoided: there, the CPU's bfloat16 weight gradient of a convolution of stride 2 may be NaN.
    """

    def make() -> nn.Module:
        model = timm.create_model(name, num_classes=CLASSES, in_chans=3, drop_rate=0.1, drop_path_rate=0.2, **options)
        return nn.Sequential(nn.Upsample(scale_factor=4), model)

    return make


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": lambda: ResNet20Network(8, SHAPE, CLASSES),
    "resnet20 of uneven width": lambda: ResNet20Network(6, SHAPE, CLASSES),
    "resnet20 padded on all sides": lambda: ResNet20Network(8, SHAPE, CLASSES, same=False),
    "vit": _vit,
    "batchnorm": BatchNormNetwork,
    "unused parameter": UnusedParameter,
    "timm resnet": _timm("test_resnet"),
    "timm convnext": _timm("test_convnext"),
    "timm vit": _timm("test_vit", img_size=64, patch_size=16, attn_drop_rate=0.1),
    "timm mixer": lambda: MlpMixer(CLASSES, img_size=16, patch_size=4, num_blocks=2, embed_dim=32, drop_path_rate=0.2),
    "timm efficientnet": _timm("test_efficientnet"),
}
"""Small networks for images of shape `SHAPE`, by name. Those of timm draw from torch's global generator."""


def build(name: str, member: int = 0) -> nn.Module:
    """Return a member's freshly initialized network."""
    with streams.seeded(streams.key("init", name, member)):
        return NETWORKS[name]()


class Siblings(Family):
    """Siblings of a network in `NETWORKS`; `teacher_view` says what a teacher sees, None that there is no teacher."""

    def __init__(self, name: str, recipe: Recipe, device: str = "cpu", teacher_view: str | None = None) -> None:
        super().__init__("resnet20", recipe, device)
        self.name = name
        self.teacher_view = teacher_view

    def module(self, member: int) -> nn.Module:
        """Return a freshly initialized network."""
        return build(self.name, member)

    def sibling(self, member: int, module: nn.Module | None = None) -> tuple[Trainer, Point]:
        """Return a sibling's trainer and start; its network is `module` if given."""
        trainer, start = super().sibling(member, module)
        if self.teacher_view is None:
            return trainer, start
        objective = Distillation(DistillationOptions(beta=0.3, teacher_view=self.teacher_view))
        teacher = FlatNetwork(self.module(member + 10).eval(), self.device)
        rules = Rules(self.recipe, objective, trainer.rules.rate, trainer.rules.order)
        return Trainer(trainer.network, self.augmenter, self.labels, rules, teacher), start
