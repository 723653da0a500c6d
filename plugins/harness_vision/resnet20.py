"""`resnet20`: the residual network with LayerNorm of git-re-basin. The module itself is in `resnet20_network.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from harness import Architecture, Options

if TYPE_CHECKING:
    from torch import nn


class ResNet20Options(Options):
    """Width and padding of a ResNet20."""

    width: int | float = Field(4, gt=0, description="the groups have 16, 32 and 64 times this many channels (whole numbers)")
    padding: Literal["same", "symmetric"] = Field(
        "same",
        description="zero padding of 3×3 convolutions of stride 2. same: as in the reference (even sizes: none before, one "
        "after); symmetric: one on every side, as usual in PyTorch",
    )

    @field_validator("width")
    @classmethod
    def _whole_channels(cls, width: int | float) -> int | float:
        """Refuse widths that give fractions of a channel; turn 4.0 into 4, so that both have the same key."""
        if 16 * width % 1:
            raise ValueError(f"16 × {width} = {16 * width:g} channels; 16 × width must be a whole number, as for 0.5, 1 and 4")
        if width == int(width):
            return int(width)
        return width


class ResNet20(Architecture):
    """ResNet20 with LayerNorm, 4,655,434 parameters in 65 tensors at width 4 with 10 classes.

    The default padding is that of the reference, since the paper uses the network of the reference. Source: Ainsworth et al.
    2023, `resnet20.py`; paper, appendix C (width 4).
    """

    name, version = "resnet20", 1
    Options = ResNet20Options

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for images of any size: (batch, *shape) to logits (batch, classes)."""
        from harness_vision.resnet20_network import ResNet20Network

        return ResNet20Network(int(16 * self.options.width), shape, num_classes, same=self.options.padding == "same")
