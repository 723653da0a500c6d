"""The recipe of a training: optimizer, schedule, batch size, weight decay, augmentation, precision.

Defaults are those of Lion et al. 2024, appendix C. Where the paper gives none, the field's default is our choice.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from harness.api.options import Options

MEANS = (0, 1)
"""Smallest and largest mean of a channel; pixel values are in [0, 1]."""

DEVIATIONS = (0.001, 1)
"""Smallest and largest standard deviation of a channel. Below a quarter of a gray level (1/255) it is almost constant."""

_Decay = Annotated[float, Field(ge=0, lt=1)]
_Mean = Annotated[float, Field(ge=MEANS[0], le=MEANS[1])]
_Deviation = Annotated[float, Field(ge=DEVIATIONS[0], le=DEVIATIONS[1])]


class Augmentation(Options):
    """Random crop with padding, horizontal flip and color jitter. Random numbers are drawn independently for every image.

    Lion et al. 2024 name these transforms without parameters (appendix C).
    """

    crop_padding: int = Field(4, ge=0, le=64, description="zero pixels added on every side before a random crop; 0: no crop")
    horizontal_flip: bool = Field(True, description="mirror each image with probability 1/2")
    brightness: float = Field(0.1, ge=0, le=1, description="factor drawn from [1 - b, 1 + b]")
    contrast: float = Field(0.1, ge=0, le=1, description="factor drawn from [1 - c, 1 + c]")
    saturation: float = Field(0.1, ge=0, le=1, description="factor drawn from [1 - s, 1 + s]; of RGB images only")
    hue: float = Field(
        0.0, ge=0, le=0.5, description="shift drawn from [-h, h], in turns of the color circle; of RGB images only"
    )

    def check_images(self, shape: tuple[int, int, int]) -> None:
        """Raise `ValueError` if a crop of an image of `shape` (channels, height, width) could contain padding only."""
        side = min(shape[1:])
        if self.crop_padding >= side:
            images = f"images of {shape[1]}×{shape[2]} pixels"
            raise ValueError(f"augmentation.crop_padding is {self.crop_padding}; at most {side - 1} for {images}")


class Recipe(Options):
    """How a network is trained over T epochs (Lion et al. 2024, appendix C).

    Networks that train together may differ in `own_fields`, which leave the times and rates of their steps alike.
    """

    own_fields: ClassVar[tuple[str, ...]] = ("augmentation", "clip_norm", "label_smoothing", "weight_decay")

    epochs: int = Field(110, ge=1, le=100_000, description="T, the epochs of one training")
    batch_size: int = Field(128, ge=1, description="images a step; an incomplete last batch of an epoch is left out")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="SGD with momentum, Adam, or AdamW")
    learning_rate: float = Field(0.1, gt=0, description="peak of the schedule")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of T with linear warm-up from 0; then a cosine to 0 at T")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum")
    nesterov: bool = Field(False, description="SGD's Nesterov form, which needs momentum")
    betas: tuple[_Decay, _Decay] = Field((0.9, 0.999), description="Adam's and AdamW's decay rates")
    eps: float = Field(1e-8, ge=1e-30, le=1, description="Adam's and AdamW's epsilon")
    weight_decay: float = Field(
        1e-4, ge=0, description="on all parameters; added to the gradient (sgd, adam) or decoupled (adamw)"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest global gradient norm; null: no clipping")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description=(
            "of training; fp32: IEEE float32, never TF32; bf16: autocast; "
            "auto: bf16 if all CUDA devices in use have it, else fp32; evaluation is always fp32"
        ),
    )
    normalization: tuple[tuple[_Mean, ...], tuple[_Deviation, ...]] | None = Field(
        None,
        description="mean and deviation per channel, of pixels in [0, 1]; null: the data set's own, of its training images",
    )
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov is true and momentum is 0; Nesterov's form needs a momentum above 0")
        return self

    def check_train_size(self, train_size: int) -> None:
        """Raise `ValueError` if a batch is larger than the training set: it could not be filled."""
        if self.batch_size > train_size:
            raise ValueError(f"batch_size is {self.batch_size}; at most {train_size}, the number of training images")

    def steps_per_epoch(self, train_size: int) -> int:
        """Return the number of whole batches per epoch, at least 1. Benchmarks with larger batches than data are refused."""
        return max(1, train_size // self.batch_size)

    def cosine(self, epoch: float) -> float:
        """Return the learning rate at a time in epochs, from 0 to T: linear warm-up from 0, then a cosine to 0 at T."""
        return warmup_cosine(epoch, self.learning_rate, self.epochs, self.warmup)

    def epoch_at(self, rate: float) -> int:
        """Return the first whole epoch after warm-up at which the cosine is at or below `rate` > 0.

        For a rate of at least the peak this is the first whole epoch after warm-up.
        """
        rise = self.warmup * self.epochs
        share = math.acos(max(-1.0, 2 * min(rate, self.learning_rate) / self.learning_rate - 1)) / math.pi
        return math.ceil(rise + share * (self.epochs - rise) - 1e-9)


def warmup_cosine(epoch: float, peak: float, epochs: float, warmup: float, end: float = 0.0) -> float:
    """Return the learning rate at a time in epochs: a line from 0 to `peak`, then a cosine to `end` after `epochs`.

    The line takes the share `warmup` of `epochs`.
    """
    rise = warmup * epochs
    if epoch < rise:
        return peak * epoch / rise
    return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * (epoch - rise) / (epochs - rise)))
