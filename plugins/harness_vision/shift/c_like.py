"""`c_like`: corruptions of a data set's own test images by a generator of our own. It needs no download.

It is not CIFAR-10-C: the published images are unseeded and cannot be made again. Corruptions without noise agree with the
published constants within one gray level. Frost needs photographs, snow and motion blur ImageMagick, and spatter a contour
detector: these are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from harness import Dataset, EvaluationSet, Split
from harness_vision.shift import appearance, blurs, noise
from harness_vision.shift.draws import Draws
from harness_vision.shift.options import SeverityOptions, image_text, selected, split_names, split_parts

LEAST, MOST = 8, 32
"""Pixels of a side of the images: severities are those for 32×32, and fewer than 8 pixels show no shapes."""
_CHUNK = 500  # images at once, which bounds the memory


@dataclass(frozen=True)
class Corruption:
    """A function of images, severity and draws; whether it needs color; and the least side of the images."""

    apply: Callable[[np.ndarray, int, Draws], np.ndarray]
    needs_color: bool = False
    least_side: int = LEAST


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": Corruption(noise.gaussian_noise),
        "shot_noise": Corruption(noise.shot_noise),
        "impulse_noise": Corruption(noise.impulse_noise),
        "speckle_noise": Corruption(noise.speckle_noise),
        "defocus_blur": Corruption(blurs.defocus_blur),
        "gaussian_blur": Corruption(blurs.gaussian_blur),
        "glass_blur": Corruption(blurs.glass_blur),
        "zoom_blur": Corruption(blurs.zoom_blur, least_side=16),  # 8 pixels enlarged by up to 1.05 are 8 pixels
        "elastic_transform": Corruption(blurs.elastic_transform),
        "fog": Corruption(appearance.fog),
        "brightness": Corruption(appearance.brightness),
        "contrast": Corruption(appearance.contrast),
        "saturate": Corruption(appearance.saturate, needs_color=True),
        "pixelate": Corruption(appearance.pixelate),
        "jpeg_compression": Corruption(appearance.jpeg_compression),
    }
)


class CLikeOptions(SeverityOptions):
    """Corruptions and severities to use."""

    corruptions: tuple[str, ...] | None = Field(
        None,
        description="names of corruptions to use; null: all that the data set's images allow (13 for digits, 15 for CIFAR)",
    )

    @field_validator("corruptions", mode="before")
    @classmethod
    def _check_names(cls, corruptions: Any) -> Any:
        return selected(corruptions, tuple(CORRUPTIONS), "the corruptions")


class CLike(EvaluationSet):
    """Test images with corruptions like those of CIFAR-10-C, made by a generator of our own ("C-like"), never CIFAR-10-C.

    The noise of an image is a function of data set, corruption, severity and the image's index.
    """

    name, version = "c_like", 1
    Options = CLikeOptions

    def check(self, dataset: Dataset) -> None:
        """Raise `ValueError` for images of another size or number of channels, and for a corruption that they do not allow."""
        super().check(dataset)
        channels, height, width = dataset.shape
        if channels not in (1, 3) or min(height, width) < LEAST or max(height, width) > MOST:
            raise ValueError(
                f"evaluation set 'c_like' exists for images with 1 or 3 channels of {LEAST} to {MOST} pixels a side; those of "
                f"{image_text(dataset)}"
            )
        for name in self.options.corruptions or ():
            problem = _problem(name, dataset)
            if problem:
                raise ValueError(f"corruption '{name}' {problem}; allowed: {', '.join(_allowed(dataset))}")

    def splits(self, dataset: Dataset) -> tuple[str, ...]:
        """`<corruption>/<severity>`."""
        return split_names(self.options.corruptions or _allowed(dataset), self.options.severities)

    def fingerprint(self, dataset: Dataset, split: str) -> str:
        """The split; the version says which generator made it, and the data set's fingerprint from which images."""
        return f"c_like {split}"

    def load(self, dataset: Dataset, split: str, root: Path) -> Split:
        """Return the corrupted test images."""
        import torch

        corruption, severity = split_parts(split)
        _, test = dataset.load(root)
        images = test.images.numpy().transpose(0, 2, 3, 1)
        corrupted = corrupt(images, dataset.name, corruption, severity)
        pixels = np.ascontiguousarray(corrupted.transpose(0, 3, 1, 2))
        return Split(torch.from_numpy(pixels), test.labels)


def corrupt(images: np.ndarray, dataset: str, corruption: str, severity: int) -> np.ndarray:
    """Return corrupted images, uint8 (images, height, width, channels). Floats are truncated, as in the published images."""
    corrupted = np.empty_like(images)
    for first in range(0, len(images), _CHUNK):
        chunk = images[first : first + _CHUNK]
        draws = Draws(("c_like", dataset, corruption, severity), first, len(chunk))
        corrupted[first : first + _CHUNK] = CORRUPTIONS[corruption].apply(chunk, severity, draws).astype(np.uint8)
    return corrupted


def _allowed(dataset: Dataset) -> tuple[str, ...]:
    return tuple(name for name in CORRUPTIONS if not _problem(name, dataset))


def _problem(name: str, dataset: Dataset) -> str:
    """Return why a corruption cannot be applied to a data set's images, or ""."""
    channels, height, width = dataset.shape
    corruption = CORRUPTIONS[name]
    if corruption.needs_color and channels == 1:
        return f"needs color, and the images of data set '{dataset.full_name}' are gray"
    if min(height, width) < corruption.least_side:
        side = corruption.least_side
        return f"needs at least {side} pixels a side, and the images of data set '{dataset.full_name}' have {height}×{width}"
    return ""
