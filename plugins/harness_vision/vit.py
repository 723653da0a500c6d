"""`vit`: the small Vision Transformer of the UvA deep learning tutorials. The module itself is in `vit_network.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator, model_validator

from harness import Architecture, Options, UserError

if TYPE_CHECKING:
    from torch import nn


class ViTOptions(Options):
    """Sizes and dropout of a Vision Transformer; the defaults are the paper's, or the tutorial's where the paper gives none."""

    patch: int = Field(4, ge=1, description="side of the square patches, in pixels")
    width: int = Field(256, ge=1, description="dimension of a token")
    mlp: int = Field(512, ge=1, description="hidden units of each block's MLP")
    depth: int = Field(6, ge=1, description="number of blocks")
    heads: int = Field(8, ge=1, description="attention heads per block; must divide the width")
    dropout: float = Field(0.2, ge=0, lt=1, description="on the embedded patches and within the MLP; 0.2 is the tutorial's")
    attention_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        validate_default=True,
        description="on the attention weights; null: as `dropout`, since the tutorial's PyTorch notebook has one value for "
        "both (its JAX version drops the attention's output instead; the paper does not say)",
    )

    @field_validator("attention_dropout")
    @classmethod
    def _as_dropout(cls, value: float | None, info: ValidationInfo) -> float | None:
        """Replace null by the value of `dropout`, so that both spellings have the same key."""
        if value is None:
            return info.data.get("dropout")
        return value

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ViTOptions:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be divided among {self.heads} heads; heads must divide the width")
        return self


class ViT(Architecture):
    """Vision Transformer with pre-norm blocks and a class token, 3,195,146 parameters for 10 classes at 32×32 pixels.

    Source: Lippe 2022, UvA deep learning tutorial 15; paper, appendix C.
    """

    name, version = "vit", 1
    Options = ViTOptions

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network for images of one size: (batch, *shape) to logits (batch, classes).

        Raise `UserError` if the patches do not divide the images.
        """
        _, height, width = shape
        if height % self.options.patch or width % self.options.patch:
            raise UserError(
                f"vit: images of {height}×{width} pixels cannot be cut into square patches of {self.options.patch}; "
                f"`patch` must divide both"
            )
        from harness_vision.vit_network import ViTNetwork

        return ViTNetwork(shape, num_classes, **self.options.model_dump())
