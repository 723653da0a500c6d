"""Corruptions of light, color and storage. Images are uint8 (images, height, width, channels), results in 0 … 255.

Constants are those for 32×32 pixels, for severities 1 to 5 (Hendrycks and Dietterich 2019, their script for CIFAR).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from harness_vision.shift.draws import Draws

if TYPE_CHECKING:
    from PIL import Image

_BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
_SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # factor and summand of the saturation
_PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
_JPEG = (80, 65, 58, 50, 40)
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # density, and decay of its roughness
_ROUGHNESS = 100.0


def brightness(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Add a constant to the value V of HSV. Hue and saturation stay, so all channels grow by one factor."""
    pixels = images / 255.0
    value = pixels.max(axis=3, keepdims=True)
    brighter = np.clip(value + _BRIGHTNESS[severity - 1], 0, 1)
    factor = brighter / np.where(value > 0, value, 1)
    return 255.0 * np.where(value > 0, pixels * factor, brighter)


def contrast(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Shrink the difference of each value from the mean of its channel."""
    pixels = images / 255.0
    means = pixels.mean(axis=(1, 2), keepdims=True)
    return 255.0 * np.clip((pixels - means) * _CONTRAST[severity - 1] + means, 0, 1)


def saturate(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Scale and shift the saturation S of HSV; hue and value stay. A gray pixel has the hue of red."""
    factor, summand = _SATURATE[severity - 1]
    pixels = images / 255.0
    value = pixels.max(axis=3, keepdims=True)
    below = value - pixels  # V · S times a share that depends on the hue alone
    saturation = below.max(axis=3, keepdims=True) / np.where(value > 0, value, 1)
    changed = np.clip(saturation * factor + summand, 0, 1)
    red = value * np.array([0.0, 1.0, 1.0])
    colored = saturation > 0
    share = np.where(colored, below / np.where(colored, saturation, 1), red)
    return 255.0 * np.clip(value - share * changed, 0, 1)


def pixelate(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Shrink the image by averaging over boxes, and enlarge it again."""
    from PIL import Image

    _, height, width, _ = images.shape
    scale = _PIXELATE[severity - 1]
    small = int(width * scale), int(height * scale)

    def convert(picture: Image.Image) -> Image.Image:
        return picture.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return _through_pictures(images, convert)


def jpeg_compression(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Write the image as JPEG with a low quality, and read it."""
    from PIL import Image

    def convert(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_JPEG[severity - 1])
        return Image.open(file)

    return _through_pictures(images, convert)


def _through_pictures(images: np.ndarray, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Return the images after a conversion of pictures of Pillow, uint8 of the same shape."""
    from PIL import Image

    converted = np.empty_like(images)
    for index, pixels in enumerate(images):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        converted[index] = np.asarray(convert(picture)).reshape(pixels.shape)
    return converted


def fog(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Add a random cloud, and scale the sum to the brightest value of the image."""
    density, decay = _FOG[severity - 1]
    pixels = images / 255.0
    _, height, width, _ = images.shape
    cloud = clouds(max(height, width), decay, draws)[:, :height, :width, None]
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    return 255.0 * np.clip((pixels + density * cloud) * brightest / (brightest + density), 0, 1)


def clouds(side: int, decay: float, draws: Draws) -> np.ndarray:
    """Return height maps in [0, 1], (images, n, n) for the power of two n that is at least `side`.

    They are made by the diamond-square algorithm on a torus (Miller 1986): middles of squares, then of edges, are the mean of
    their four neighbors plus uniform noise of ±roughness², and the roughness is divided by `decay` at each halving.
    """
    step = 1 << (side - 1).bit_length()
    noise = 2 * draws.uniform(step, step) - 1
    heights = np.zeros(noise.shape)
    roughness = _ROUGHNESS
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        below, right = np.roll(corners, -1, 1), np.roll(corners, -1, 2)
        middles = (corners + below + right + np.roll(below, -1, 2)) / 4 + roughness**2 * noise[:, half::step, half::step]
        above, left = np.roll(middles, 1, 1), np.roll(middles, 1, 2)
        horizontal = (corners + right + middles + above) / 4 + roughness**2 * noise[:, ::step, half::step]
        vertical = (corners + below + middles + left) / 4 + roughness**2 * noise[:, half::step, ::step]
        heights[:, half::step, half::step] = middles
        heights[:, ::step, half::step] = horizontal
        heights[:, half::step, ::step] = vertical
        step = half
        roughness /= decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return heights / heights.max(axis=(1, 2), keepdims=True)
