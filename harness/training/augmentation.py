"""Augmentation of whole batches on the device: random crop, horizontal flip, color jitter, normalization.

The images stay on the device as bytes. What happens to an image is a pure function of the augmentation's strengths, a key
and the image's index, so it does not depend on the batch the image is in, on who else trains, or on the engine. Nothing
here reads a value back to the host or branches on one, so a step with its augmentation can be captured in a CUDA graph.

Inside, images are planes: float32 (channels, batch, pixels), so that every pass runs over unbroken memory, in place where it
can. Every operation rounds once (no fused multiply-add), and the one sum is taken in float64, which holds the sum of an
image's float32 pixels without rounding unless a brightness factor is near 0: that is why grouping cannot change a bit.
Knows nothing of the recipe's other parts, of networks or of epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import streams
from harness.api.recipe import Augmentation

DRAWS = 8  # counters that an image has to itself: seven draws and a spare one

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Draws:
    """What is drawn for each image; every field has the shape of the indices."""

    top: Tensor  # int64, 0 … 2 × padding
    left: Tensor
    flip: Tensor  # bool
    brightness: Tensor  # float32 factors around 1
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # float32, turns of the color circle, around 0


def draw(augmentation: Augmentation, key: int | Tensor, indices: Tensor) -> Draws:
    """Draw every image's crop, flip and factors.

    `indices` are int64, (batch,) or (members, batch); `key` is a stream's key, or an int64 tensor of keys that broadcasts
    against the indices, (members, 1). Number d of image i is number `i * DRAWS + d` of the stream: changing one strength
    leaves the other draws as they are.
    """
    numbers = torch.arange(7, device=indices.device).view(7, *[1] * indices.ndim)
    top, left, flip, brightness, contrast, saturation, hue = streams.uniform(key, indices * DRAWS + numbers).unbind()
    places = 2 * augmentation.crop_padding + 1
    return Draws(
        top=(top * places).to(torch.int64),  # below `places`, also after rounding: places < 2²³
        left=(left * places).to(torch.int64),
        flip=flip < (0.5 if augmentation.horizontal_flip else 0.0),
        brightness=_around(1.0, augmentation.brightness, brightness),
        contrast=_around(1.0, augmentation.contrast, contrast),
        saturation=_around(1.0, augmentation.saturation, saturation),
        hue=_around(0.0, augmentation.hue, hue),
    )


class PaddedImages:
    """Images resident on a device as bytes, padded once with zeros, to cut windows from.

    `images` are uint8 (n, channels, height, width).
    """

    def __init__(self, images: Tensor, padding: int, device: torch.device | str = "cpu") -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images: {images.dtype} {tuple(images.shape)}; wanted torch.uint8 (n, channels, height, width)")
        self.channels, self.height, self.width = images.shape[1:]
        self.padding = padding
        padded = F.pad(images.to(device), [padding] * 4).contiguous()
        plane, self._line = padded.shape[2] * padded.shape[3], padded.shape[3]
        self._image = self.channels * plane
        # Every run of `width` bytes of the memory is a row of this view, so that a window's lines are whole rows of it:
        # copying rows is eight times as fast as gathering pixels.
        self._runs = padded.flatten().as_strided((padded.numel() - self.width + 1, self.width), (1, 1))
        channel, line = torch.arange(self.channels, device=device), torch.arange(self.height, device=device)
        self._lines = channel.view(-1, 1, 1) * plane + line * self._line  # (channels, 1, height)

    def windows(self, indices: Tensor, top: Tensor | int, left: Tensor | int) -> Tensor:
        """Cut the window at (top, left) of every padded image: indices (batch,) to uint8 (channels, batch, height, width)."""
        start = indices * self._image + top * self._line + left
        runs = self._runs.index_select(0, (self._lines + start.unsqueeze(1)).flatten())
        return runs.view(self.channels, len(indices), self.height, self.width)

    def originals(self, indices: Tensor) -> Tensor:
        """Take the images as they are: indices (batch,) to uint8 (channels, batch, height, width)."""
        return self.windows(indices, self.padding, self.padding)


def apply(images: PaddedImages, indices: Tensor, draws: Draws, augmentation: Augmentation) -> Tensor:
    """Crop, flip and jitter images: float32 in [0, 1] of shape (*indices.shape, channels, height, width).

    The order is brightness, contrast, saturation, hue for every image (torchvision draws an order per image), each as in
    torchvision.transforms.v2 on float images. Saturation and hue leave images alone that have not three channels. An
    operation of strength 0 is left out.
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
    """A training set on a device, from which augmented and normalized batches are taken.

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
        """Return a batch as training sees it: indices and key as for `draw`, to float32 (*indices.shape, channels, height,
        width), each batch in channels-last memory."""
        draws = draw(self.augmentation, key, indices)
        return self._normalize(apply(self.images, indices, draws, self.augmentation))

    def plain(self, indices: Tensor) -> Tensor:
        """Return a batch without augmentation, as evaluation sees it; shapes as above."""
        planes = _to_unit(self.images.originals(indices.flatten()))
        return self._normalize(_to_images(planes, self.images, indices))

    def _normalize(self, images: Tensor) -> Tensor:
        """Normalize images in place and lay them out channels-last."""
        normal = images.sub_(self._mean).div_(self._std).flatten(0, -4)
        return normal.contiguous(memory_format=torch.channels_last).unflatten(0, images.shape[:-3])


def adjust_brightness(planes: Tensor, factor: Tensor) -> Tensor:
    """Scale every image by its factor, in place; planes (channels, batch, pixels), factor (batch, 1), here and below."""
    return planes.mul_(factor).clamp_(0, 1)


def adjust_contrast(planes: Tensor, factor: Tensor) -> Tensor:
    """Blend every image with the mean of its gray image, in place."""
    total = grayscale(planes).sum(-1, keepdim=True, dtype=torch.float64)
    mean = (total / planes.shape[-1]).to(torch.float32)
    return _blend(planes, mean, factor)


def adjust_saturation(planes: Tensor, factor: Tensor) -> Tensor:
    """Blend every RGB image with its gray image, in place."""
    return _blend(planes, grayscale(planes), factor)


def adjust_hue(planes: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of every RGB image by its shift, in turns.

    With R', G', B' the channels scaled to reach from 0 to 1 in each pixel, the hue in sixths of a turn is
    ±(1 − R' + G' + B'), with the sign of G − B: one formula for all six sextants. Back from a hue h in [0, 6], the scaled
    channels are |h − 3| − 1, 2 − |h − 2| and 2 − |h − 4|, cut to [0, 1].
    """
    red, green, blue = planes.unbind()
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    span = high - low
    hue = (high - red).add_(green - low).add_(blue - low).div_(span.clamp(min=_TINY))  # gray: 0 / tiny = 0
    hue = hue.copysign_(green - blue).add_(shift * 6)
    hue.sub_((hue * (1 / 6)).floor_().mul_(6))  # a whole number of turns off; `remainder` takes three times as long
    scaled = ((hue - 3).abs_().sub_(1), (hue - 2).abs_().neg_().add_(2), (hue - 4).abs_().neg_().add_(2))
    for plane, share in zip(planes, scaled):
        torch.add(low, share.clamp_(0, 1).mul_(span), out=plane)
    return planes


def grayscale(planes: Tensor) -> Tensor:
    """Return the gray image (batch, pixels): ITU-R 601 luma of three channels, as torchvision rounds it; else their mean."""
    if len(planes) == 3:
        red, green, blue = planes.unbind()
        return (red * 0.2989).add_(green * 0.587).add_(blue * 0.114)
    return reduce(torch.add, planes.unbind()) / len(planes)


def _around(center: float, radius: float, number: Tensor) -> Tensor:
    """Map numbers in [0, 1) to [center - radius, center + radius)."""
    return number * (2 * radius) + (center - radius)


def _flip(pixels: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images: pixels (channels, batch, height, width), chosen (batch,).

    a ^ (a ^ b) is b: four passes over bytes, a quarter of the time of `where` on the CPU.
    """
    mask = chosen.to(torch.uint8).mul_(255).view(-1, 1, 1)
    return pixels.flip(-1).bitwise_xor_(pixels).bitwise_and_(mask).bitwise_xor_(pixels)


def _blend(planes: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Move planes away from (factor > 1) or towards (factor < 1) `other`, in place."""
    return planes.mul_(factor).add_(other * (1 - factor)).clamp_(0, 1)


def _to_unit(pixels: Tensor) -> Tensor:
    """Bytes (channels, batch, height, width) to planes (channels, batch, pixels) in [0, 1]."""
    return pixels.flatten(2).to(torch.float32).mul_(1 / 255)


def _to_images(planes: Tensor, images: PaddedImages, indices: Tensor) -> Tensor:
    """View planes as images of shape (*indices.shape, channels, height, width)."""
    return planes.unflatten(2, (images.height, images.width)).transpose(0, 1).unflatten(0, indices.shape)
