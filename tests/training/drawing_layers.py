"""Layers that draw random numbers with functions of torch, and siblings that end with one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training.point import Point
from harness.training.trainer import Trainer
from siblings import Family


class Drawing(nn.Module):
    """Applies a function of an input and of whether the network is in training."""

    def __init__(self, function: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x, self.training)


def drop_path(x: Tensor, training: bool) -> Tensor:
    """Drop whole images, as timm's DropPath does."""
    if not training:
        return x
    return x * x.new_empty(len(x), 1).bernoulli_(0.8).div_(0.8)


def attention(x: Tensor, training: bool) -> Tensor:
    """Attend to values of an image, with dropout of the weights."""
    tokens = x.view(len(x), 1, -1, 1)
    out = F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=0.3 if training else 0.0)
    return x + out.view(x.shape)


def noise(x: Tensor, training: bool) -> Tensor:
    """Add Gaussian noise."""
    return x + 0.1 * torch.randn_like(x) * training


DRAWING_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "drop path": lambda: Drawing(drop_path),
    "functional dropout": lambda: Drawing(lambda x, training: F.dropout(x, 0.2, training)),
    "attention": lambda: Drawing(attention),
    "Dropout1d": lambda: nn.Sequential(nn.Unflatten(1, (2, -1)), nn.Dropout1d(0.3), nn.Flatten()),
    "AlphaDropout": lambda: nn.AlphaDropout(0.2),
    "noise": lambda: Drawing(noise),
}
"""Layers by name, for inputs (batch, 4)."""


def sibling_with(family: Family, layer: str, member: int) -> tuple[Trainer, Point]:
    """Return a sibling's trainer and start; its network ends with a drawing layer."""
    return family.sibling(member, nn.Sequential(*family.module(member), DRAWING_LAYERS[layer]()))


def started_with(family: Family, layer: str, members: int = 2) -> list[Trainer]:
    """Return siblings at their start whose networks end with a drawing layer."""
    trainers = []
    for member in range(members):
        trainer, start = sibling_with(family, layer, member)
        trainer.load(start)
        trainers.append(trainer)
    return trainers
