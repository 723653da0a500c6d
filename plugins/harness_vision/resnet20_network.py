"""ResNet20 with LayerNorm over channels, as in git-re-basin's `resnet20.py` (Ainsworth et al. 2023). Knows nothing of plugins.

Tensors are (batch, channels, height, width). The network works in any memory format; channels-last is the fastest. LayerNorm
returns channels-last strides, and copying them back takes a third of a training step on the CPU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import kernels

Margins = tuple[int, int, int, int]
"""Zeros added on the left, right, top and bottom, in the order of `F.pad`."""


class ResNet20Network(nn.Module):
    """Stem, three groups of three blocks with c, 2c and 4c channels, global average pooling, linear head.

    c is `channels`; `shape` is (channels, height, width) of the images. With `same`, convolutions of stride 2 are padded as in
    the reference, otherwise by one pixel on every side.
    """

    def __init__(self, channels: int, shape: tuple[int, int, int], num_classes: int, *, same: bool = True) -> None:
        super().__init__()
        images, height, width = shape
        self.conv1 = conv3x3(images, channels)
        self.norm1 = LayerNorm2d(channels, relu=True)
        self.groups = nn.Sequential()
        inputs = channels
        for outputs, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2)):
            margins = None
            if same and stride == 2:
                margins = same_margins(height, width)
            first = Block(inputs, outputs, stride, margins)
            self.groups.append(nn.Sequential(first, Block(outputs, outputs), Block(outputs, outputs)))
            inputs = outputs
            height = -(-height // stride)
            width = -(-width // stride)
        self.dense = nn.Linear(inputs, num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x))
        x = self.groups(x)
        return self.dense(x.mean((2, 3)))  # (batch, 4c) -> (batch, classes)


class Block(nn.Module):
    """Two convolutions and a shortcut. At stride 2 the shortcut is a 3×3 convolution with its own LayerNorm.

    `margins` is the zero padding of the convolutions of that stride; None: one on every side.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, margins: Margins | None = None) -> None:
        super().__init__()
        self.margins = margins
        padding = 1 if margins is None else 0
        self.conv1 = conv3x3(channels, out, stride, padding)
        self.norm1 = LayerNorm2d(out, relu=True)
        self.conv2 = conv3x3(out, out)
        self.norm2 = LayerNorm2d(out, relu=True)
        self.strided = stride != 1
        if self.strided:
            self.shortcut_conv = conv3x3(channels, out, stride, padding)
            self.shortcut_norm = LayerNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        if self.margins is not None:
            x = F.pad(x, self.margins)  # once for both convolutions of its input
        y = self.conv2(self.norm1(self.conv1(x)))
        shortcut = x
        if self.strided:
            shortcut = self.shortcut_norm(self.shortcut_conv(x))
        return self.norm2(y, shortcut)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of each pixel, ε = 1e-6 (flax's default). GroupNorm(1, channels) also averages over pixels.

    `forward(x, residual)` adds a residual, if there is one, and applies ReLU with `relu`. On a GPU one kernel does all of it.
    Elsewhere a channels-last tensor permuted to (batch, height, width, channels) is contiguous, so no copy is made.
    """

    uses_kernels = True

    def __init__(self, channels: int, eps: float = 1e-6, *, relu: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.channels = (channels,)
        self.eps = eps
        self.relu = relu
        self.uneven = channels % 16 != 0

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        fused = kernels.layer_norm(x, self.weight, self.bias, self.eps, residual=residual, relu=self.relu)
        if fused is not None:
            return fused
        # The CPU kernel for bfloat16 takes up to six times as long if channels are not a multiple of 16: use float32 there.
        inputs = x.to(self.weight.dtype) if self.uneven else x
        y = F.layer_norm(inputs.permute(0, 2, 3, 1), self.channels, self.weight, self.bias, self.eps)
        # Under autocast on CUDA, layer_norm always returns float32: return to the precision of the convolutions.
        y = y.permute(0, 3, 1, 2).to(x.dtype)
        if residual is not None:
            y = y + residual
        return F.relu(y) if self.relu else y


def conv3x3(channels: int, out: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution without bias."""
    return nn.Conv2d(channels, out, 3, stride, padding, bias=False)


def same_margins(height: int, width: int) -> Margins | None:
    """Return the zero padding of `SAME` (TensorFlow, JAX) for a 3×3 convolution of stride 2.

    An even size gets none before and one after, an odd size one on both sides. None: one on every side, which the convolution
    adds itself.
    """
    top = height % 2
    left = width % 2
    if top and left:
        return None
    return (left, 1, top, 1)


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Draw weights as flax's `lecun_normal`, the default of the reference: variance 1 / fan_in, truncated normal.

    The normal is truncated at two standard deviations, which reduces its variance; dividing by the standard deviation of a unit
    normal truncated at ±2 restores it. Biases are 0, scales of LayerNorm 1. PyTorch's default has a standard deviation √3 times
    smaller.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            std = 1 / math.sqrt(fan_in) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, 0.0, std, -2 * std, 2 * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
