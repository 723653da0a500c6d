"""ResNet20 with LayerNorm over channels, after git-re-basin's `resnet20.py` (Ainsworth et al. 2023). Knows nothing of plugins.

Tensors are (batch, channels, height, width). The network is meant for channels-last memory and works in any: LayerNorm hands
on channels-last strides, and copying them back costs a third of a training step on the CPU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Margins = tuple[int, int, int, int]
"""Zeros added to the left, the right, the top and the bottom, as `F.pad` takes them."""


class ResNet20Network(nn.Module):
    """Stem, three groups of three blocks with c, 2c and 4c channels, mean over pixels, linear head.

    `same` pads convolutions of stride 2 as the reference does, otherwise by one pixel on every side.
    """

    def __init__(self, channels: int, shape: tuple[int, int, int], num_classes: int, *, same: bool = True) -> None:
        super().__init__()
        images, height, width = shape
        self.conv1 = conv3x3(images, channels)
        self.norm1 = LayerNorm2d(channels)
        self.groups = nn.Sequential()
        wide = channels
        for out, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2)):
            first = Block(wide, out, stride, same_margins(height, width) if same and stride == 2 else None)
            self.groups.append(nn.Sequential(first, Block(out, out), Block(out, out)))
            wide, height, width = out, -(-height // stride), -(-width // stride)
        self.dense = nn.Linear(wide, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        x = self.groups(x)
        return self.dense(x.mean((2, 3)))  # (batch, 4c) -> (batch, classes)


class Block(nn.Module):
    """Two convolutions and a shortcut. Where the stride is 2, the shortcut is a 3×3 convolution with LayerNorm of its own."""

    def __init__(self, channels: int, out: int, stride: int = 1, margins: Margins | None = None) -> None:
        super().__init__()
        self.margins = margins
        padding = 1 if margins is None else 0
        self.conv1 = conv3x3(channels, out, stride, padding)
        self.norm1 = LayerNorm2d(out)
        self.conv2 = conv3x3(out, out)
        self.norm2 = LayerNorm2d(out)
        self.strided = stride != 1
        if self.strided:
            self.shortcut_conv = conv3x3(channels, out, stride, padding)
            self.shortcut_norm = LayerNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        if self.margins is not None:
            x = F.pad(x, self.margins)  # once for both convolutions that read it
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        shortcut = self.shortcut_norm(self.shortcut_conv(x)) if self.strided else x
        return F.relu(y + shortcut)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of each pixel, ε = 1e-6 (flax's default): neither BatchNorm nor GroupNorm(1, channels).

    The permuted view of a channels-last tensor is contiguous, and so is the result before it is permuted back.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.channels, self.eps = (channels,), eps
        self.uneven = channels % 16 != 0

    def forward(self, x: Tensor) -> Tensor:
        # The CPU's bfloat16 kernel takes up to six times as long where its vectors of 16 do not fill up: go over float32.
        whole = x.to(self.weight.dtype) if self.uneven else x
        y = F.layer_norm(whole.permute(0, 2, 3, 1), self.channels, self.weight, self.bias, self.eps)
        # Under CUDA's autocast layer_norm returns float32 whatever it is given: go on in the precision of the convolutions.
        return y.permute(0, 3, 1, 2).to(x.dtype)


def conv3x3(channels: int, out: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution without bias."""
    return nn.Conv2d(channels, out, 3, stride, padding, bias=False)


def same_margins(height: int, width: int) -> Margins | None:
    """Return the zeros that `SAME` adds for a 3×3 convolution of stride 2: none before and one after an even size, one on
    both sides of an odd one. None: one on every side, which the convolution adds by itself.
    """
    top, left = height % 2, width % 2
    return None if top and left else (left, 1, top, 1)


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Draw weights as flax's `lecun_normal`, the reference's default: N(0, 1 / fan_in), cut at two standard deviations.

    Cutting takes away variance; dividing by the standard deviation of a unit normal cut at ±2 gives it back. Biases are 0 and
    LayerNorm's scales 1. PyTorch's own default has a standard deviation √3 times smaller.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            std = 1 / math.sqrt(fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, 0.0, std, -2 * std, 2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
