"""Augmentation of whole batches on the device: random crop, horizontal flip, color jitter, normalization.

The images stay on the device as bytes. The augmentation of an image is a pure function of the augmentation's strengths, a key
and the image's index. It does not depend on the other images of the batch, on other trainings, or on the engine. Nothing here
reads a value back to the host or branches on one, so a step with its augmentation can be captured in a CUDA graph.

Internally, images are planes, float32 (channels, batch, pixels), so that every pass runs over contiguous memory, in place where
possible. Every operation rounds once (no fused multiply-add). The only sum is taken in float64, which holds the sum of an
image's float32 pixels without rounding unless a brightness factor is near 0. Therefore grouping does not change a bit. Knows
nothing of the recipe's other parts, of networks or of epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import streams
from harness.api.recipe import Augmentation

DRAWS = 8  # counters per image: seven draws and an unused one

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Draws:
    """The random parameters of each image's augmentation; every field has the shape of the indices."""

    top: Tensor  # int64, 0 … 2 × padding
    left: Tensor
    flip: Tensor  # bool
    brightness: Tensor  # float32 factors around 1
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # float32, turns of the color circle, around 0


def draw(augmentation: Augmentation, key: int | Tensor, indices: Tensor) -> Draws:
    """Draw the crop, the flip and the factors of every image.

    `indices` are int64, (batch,) or (members, batch); `key` is a stream's key, or an int64 tensor of keys that broadcasts
    against the indices, (members, 1). Draw d of image i is number `i * DRAWS + d` of the stream, so that changing one
    strength does not change the other draws.
    """
    numbers = torch.arange(7, device=indices.device).view(7, *[1] * indices.ndim)
    top, left, flip, brightness, contrast, saturation, hue = streams.uniform(key, indices * DRAWS + numbers).unbind()
    offsets = 2 * augmentation.crop_padding + 1
    flip_probability = 0.5 if augmentation.horizontal_flip else 0.0
    return Draws(
        top=(top * offsets).to(torch.int64),  # less than `offsets`, also after rounding: offsets < 2²³
        left=(left * offsets).to(torch.int64),
        flip=flip < flip_probability,
        brightness=_around(1.0, augmentation.brightness, brightness),
        contrast=_around(1.0, augmentation.contrast, contrast),
        saturation=_around(1.0, augmentation.saturation, saturation),
        hue=_around(0.0, augmentation.hue, hue),
    )


class PaddedImages:
    """Images on a device, uint8 (n, channels, height, width), padded once with zeros, from which windows are cut."""

    def __init__(self, images: Tensor, padding: int, device: torch.device | str = "cpu") -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images: {images.dtype} {tuple(images.shape)}; wanted torch.uint8 (n, channels, height, width)")
        self.channels, self.height, self.width = images.shape[1:]
        self.padding = padding
        self._count = len(images)
        padded = F.pad(images.to(device), [padding] * 4).contiguous()
        self._line_size = padded.shape[3]
        plane_size = padded.shape[2] * padded.shape[3]
        self._image_size = self.channels * plane_size
        # Every run of `width` bytes of memory is a row of this view, so that a window's lines are rows of it. Copying rows is
        # eight times as fast as gathering pixels.
        self._runs = padded.flatten().as_strided((padded.numel() - self.width + 1, self.width), (1, 1))
        channel = torch.arange(self.channels, device=device)
        line = torch.arange(self.height, device=device)
        self._line_offsets = channel.view(-1, 1, 1) * plane_size + line * self._line_size  # (channels, 1, height)

    def __len__(self) -> int:
        """The number of images."""
        return self._count

    def windows(self, indices: Tensor, top: Tensor | int, left: Tensor | int) -> Tensor:
        """Cut the window at (top, left) of every padded image: indices (batch,) to uint8 (channels, batch, height, width)."""
        start = indices * self._image_size + top * self._line_size + left
        runs = self._runs.index_select(0, (self._line_offsets + start.unsqueeze(1)).flatten())
        return runs.view(self.channels, len(indices), self.height, self.width)

    def originals(self, indices: Tensor) -> Tensor:
        """Return the images without padding: indices (batch,) to uint8 (channels, batch, height, width)."""
        return self.windows(indices, self.padding, self.padding)


def apply(images: PaddedImages, indices: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """Crop, flip and jitter images; return float32 in [0, 1] of shape (*indices.shape, channels, height, width).

    The order is brightness, contrast, saturation, hue for every image (torchvision draws an order per image), each as in
    torchvision.transforms.v2 on float images. Saturation and hue apply only to images of three channels. Operations of strength
    0 are skipped.
    """
    if images.padding != augmentation.crop_padding:
        raise ValueError(f"images are padded by {images.padding}, the augmentation crops with {augmentation.crop_padding}")
    pixels = images.windows(indices.flatten(), draws.top.flatten(), draws.left.flatten())
    if augmentation.horizontal_flip:
        pixels = _flip(pixels, draws.flip.flatten())
    planes = _to_unit(pixels)
    if augmentation.brightness:
        planes = adjust_brightness(planes, draws.brightness.reshape(-1, 1))
    if augmentation.contrast:
        planes = adjust_contrast(planes, draws.contrast.reshape(-1, 1))
    if augmentation.saturation and images.channels == 3:
        planes = adjust_saturation(planes, draws.saturation.reshape(-1, 1))
    if augmentation.hue and images.channels == 3:
        planes = adjust_hue(planes, draws.hue.reshape(-1, 1))
    return _to_images(planes, images, indices)


class Augmenter:
    """A training set on a device, which returns augmented and normalized batches.

        augmenter = Augmenter(split.images, recipe.augmentation, *dataset.normalization, device="cuda")
        inputs = augmenter(order[:128], streams.key("augmentation", seed, member, epoch))

    `images` are uint8 (n, channels, height, width); `mean` and `std` are per channel, of pixel values in [0, 1].
    """

    def __init__(
        self,
        images: Tensor,
        augmentation: Augmentation,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
    ) -> None:
        self.augmentation = augmentation
        self.images = PaddedImages(images, augmentation.crop_padding, device)
        if not len(mean) == len(std) == self.images.channels:
            raise ValueError(f"normalization: {len(mean)} means and {len(std)} deviations for {self.images.channels} channels")
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(-1, 1, 1)

    def __call__(self, indices: Tensor, key: int | Tensor) -> Tensor:
        """Return an augmented batch, float32 (*indices.shape, channels, height, width), each batch in channels-last memory.

        The indices and the key are as for `draw`.
        """
        draws = draw(self.augmentation, key, indices)
        return self._normalize(apply(self.images, indices, draws, self.augmentation))

    def plain(self, indices: Tensor) -> Tensor:
        """Return a batch without augmentation, as evaluation sees it; shapes as in `__call__`."""
        planes = _to_unit(self.images.originals(indices.flatten()))
        return self._normalize(_to_images(planes, self.images, indices))

    def varied(self, augmentation: Augmentation) -> Augmenter:
        """Return an augmenter of the same images with another augmentation. Images that are padded alike are shared."""
        if augmentation == self.augmentation:
            return self
        other = copy(self)
        other.augmentation = augmentation
        if augmentation.crop_padding != self.augmentation.crop_padding:
            images = self.images.originals(torch.arange(len(self.images), device=self._mean.device)).transpose(0, 1)
            other.images = PaddedImages(images, augmentation.crop_padding, self._mean.device)
        return other

    def _normalize(self, images: Tensor) -> Tensor:
        """Normalize images in place; return them in channels-last memory."""
        normalized = images.sub_(self._mean).div_(self._std).flatten(0, -4)
        return normalized.contiguous(memory_format=torch.channels_last).unflatten(0, images.shape[:-3])


def adjust_brightness(planes: Tensor, factor: Tensor) -> Tensor:
    """Scale every image by its factor, in place: planes (channels, batch, pixels), factor (batch, 1)."""
    return planes.mul_(factor).clamp_(0, 1)


def adjust_contrast(planes: Tensor, factor: Tensor) -> Tensor:
    """Blend every image with the mean of its gray image, in place; shapes as in `adjust_brightness`."""
    total = grayscale(planes).sum(-1, keepdim=True, dtype=torch.float64)
    mean = (total / planes.shape[-1]).to(torch.float32)
    return _blend(planes, mean, factor)


def adjust_saturation(planes: Tensor, factor: Tensor) -> Tensor:
    """Blend every RGB image with its gray image, in place; shapes as in `adjust_brightness`."""
    return _blend(planes, grayscale(planes), factor)


def adjust_hue(planes: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of every RGB image, in place: planes (3, batch, pixels), shift (batch, 1) in turns of the color circle.

    Let R', G', B' be the channels of a pixel, scaled to the range from 0 to 1. Its hue in sixths of a turn is
    ±(1 − R' + G' + B') with the sign of G − B, in all six sextants. The scaled channels of a hue h in [0, 6] are |h − 3| − 1,
    2 − |h − 2| and 2 − |h − 4|, clamped to [0, 1].
    """
    red, green, blue = planes.unbind()
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    hue = (high - red).add_(green - low).add_(blue - low).div_(chroma.clamp(min=_TINY))  # gray: 0 / tiny = 0
    hue = hue.copysign_(green - blue).add_(shift * 6)
    hue.sub_((hue * (1 / 6)).floor_().mul_(6))  # subtract whole turns; `remainder` takes three times as long
    scaled = ((hue - 3).abs_().sub_(1), (hue - 2).abs_().neg_().add_(2), (hue - 4).abs_().neg_().add_(2))
    for plane, channel in zip(planes, scaled):
        torch.add(low, channel.clamp_(0, 1).mul_(chroma), out=plane)
    return planes


def grayscale(planes: Tensor) -> Tensor:
    """Return the gray image (batch, pixels): ITU-R 601 luma of three channels, rounded like torchvision's, or the mean."""
    if len(planes) == 3:
        red, green, blue = planes.unbind()
        return (red * 0.2989).add_(green * 0.587).add_(blue * 0.114)
    return reduce(torch.add, planes.unbind()) / len(planes)


def _around(center: float, radius: float, numbers: Tensor) -> Tensor:
    """Map numbers in [0, 1) to [center - radius, center + radius)."""
    return numbers * (2 * radius) + (center - radius)


def _flip(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images: pixels (channels, batch, height, width), chosen bool (batch,).

    Since a ^ (a ^ b) is b, four passes over bytes suffice, in a quarter of the time of `where` on the CPU.
    """
    mask = chosen.to(torch.uint8).mul_(255).view(-1, 1, 1)
    return pixels.flip(-1).bitwise_xor_(pixels).bitwise_and_(mask).bitwise_xor_(pixels)


def _blend(planes: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Replace planes by factor · planes + (1 − factor) · other, clamped to [0, 1], in place."""
    return planes.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def _to_unit(pixels: Tensor) -> Tensor:
    """Convert bytes (channels, batch, height, width) to planes (channels, batch, pixels) in [0, 1]."""
    return pixels.flatten(2).to(torch.float32).mul_(1 / 255)


def _to_images(planes: Tensor, images: PaddedImages, indices: Tensor) -> Tensor:
    """View planes as images of shape (*indices.shape, channels, height, width)."""
    return planes.unflatten(2, (images.height, images.width)).transpose(0, 1).unflatten(0, indices.shape)
