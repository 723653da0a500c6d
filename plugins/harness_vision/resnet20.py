"""`resnet20`: git-re-basin's residual network with LayerNorm. The network itself is in `resnet20_network.py`."""

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
        description="zeros around 3×3 convolutions of stride 2: as the reference has it (even sizes: none before, one after), "
        "or one on every side, as PyTorch users write it",
    )

    @field_validator("width")
    @classmethod
    def _whole_channels(cls, width: int | float) -> int | float:
        """Refuse fractions of a channel; write 4.0 as 4, so that both give one key."""
        if 16 * width % 1:
            raise ValueError(f"16 × {width} = {16 * width:g} channels; 16 × width must be a whole number, as for 0.5, 1 and 4")
        return int(width) if width == int(width) else width


class ResNet20(Architecture):
    """ResNet20 with LayerNorm (Ainsworth et al. 2023, `resnet20.py`; the paper's appendix C has width 4).

    4,655,434 parameters for 10 classes at width 4, in 65 tensors. Padding defaults to the reference's, since the paper uses
    the reference's network.
    """

    name, version = "resnet20", 1
    Options = ResNet20Options

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for images of any size: (batch, *shape) to logits (batch, classes)."""
        from harness_vision.resnet20_network import ResNet20Network

        return ResNet20Network(int(16 * self.options.width), shape, num_classes, same=self.options.padding == "same")
