"""Corruptions that blur or distort. Images are uint8 (images, height, width, channels), results float64 in 0 … 255.

Constants are those for 32×32 pixels, for severities 1 to 5 (Hendrycks and Dietterich 2019, their script for CIFAR).
"""

from __future__ import annotations

import numpy as np

from harness_vision.shift.draws import Draws

_GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)
_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius, deviation of the smoothing
_ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))  # deviation, reach, rounds
_ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""Size and deviation of the displacements, and reach of the affine map, in sides of the image."""


def gaussian_blur(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Convolve with a Gaussian; the border is continued by its nearest pixel."""
    return 255.0 * np.clip(_gaussian(images / 255.0, _GAUSSIAN[severity - 1]), 0, 1)


def _gaussian(values: np.ndarray, deviation: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(values, sigma=(0, deviation, deviation, 0), mode="nearest", truncate=4.0))


def defocus_blur(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Convolve with a disk that is smoothed; the border is mirrored."""
    from scipy.ndimage import correlate

    kernel = disk(*_DEFOCUS[severity - 1])
    blurred = correlate(images / 255.0, kernel[None, :, :, None], mode="mirror")
    return 255.0 * np.clip(blurred, 0, 1)


def disk(radius: float, deviation: float) -> np.ndarray:
    """Return a disk with sum 1 after a Gaussian of 3×3 pixels, (7, 7)."""
    positions = np.arange(-3, 4)
    inside = (positions[:, None] ** 2 + positions[None, :] ** 2 <= radius**2).astype(np.float64)
    inside /= inside.sum()
    side = np.exp(-1 / (2 * deviation**2))
    weights = np.array([side, 1.0, side]) / (1 + 2 * side)
    for axis in (0, 1):
        shifted = [np.roll(inside, step, axis) for step in (-1, 0, 1)]  # nothing reaches the border
        inside = sum(weight * part for weight, part in zip(weights, shifted, strict=True))
    return inside


def zoom_blur(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Average the image and its enlargements by 1.00, 1.01, … below a largest factor."""
    values = images / 255.0
    factors = np.arange(1, _ZOOM[severity - 1], 0.01)
    total = values.copy()
    count, height, width, channels = values.shape
    for factor in factors:
        rows = _enlargement(height, float(factor)) @ values.reshape(count, height, width * channels)
        total += _enlargement(width, float(factor)) @ rows.reshape(count, height, width, channels)
    return 255.0 * np.clip(total / (len(factors) + 1), 0, 1)


def _enlargement(side: int, factor: float) -> np.ndarray:
    """Return the matrix (side, side) that enlarges the middle of a row of pixels by linear interpolation, and trims it."""
    cropped = int(np.ceil(side / factor))
    start = (side - cropped) // 2
    enlarged = round(cropped * factor)
    trimmed = (enlarged - side) // 2
    positions = (np.arange(side) + trimmed) * (cropped - 1) / (enlarged - 1)
    below = np.minimum(positions.astype(np.int64), cropped - 2)
    share = positions - below
    matrix = np.zeros((side, side))
    matrix[np.arange(side), start + below] = 1 - share
    matrix[np.arange(side), start + below + 1] += share
    return matrix


def glass_blur(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Blur, exchange every inner pixel with a neighbor above or to the left of it, and blur again."""
    deviation, reach, rounds = _GLASS[severity - 1]
    pixels = (255.0 * _gaussian(images / 255.0, deviation)).astype(np.uint8)
    _, height, width, _ = images.shape
    every = np.arange(len(images))
    for _ in range(rounds):
        offsets = (draws.uniform(height, width, 2) * 2 * reach).astype(np.int64) - reach  # from −reach to reach − 1
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                other_row = row + offsets[:, row, column, 0]
                other_column = column + offsets[:, row, column, 1]
                moved = pixels[every, other_row, other_column]
                pixels[every, other_row, other_column] = pixels[:, row, column]
                pixels[:, row, column] = moved
    return 255.0 * np.clip(_gaussian(pixels / 255.0, deviation), 0, 1)


def elastic_transform(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Move pixels by a random affine map and by smooth random displacements; the border is mirrored."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    size, deviation, reach = (min(images.shape[1:3]) * constant for constant in _ELASTIC[severity - 1])
    count, height, width, channels = images.shape
    affine = _affine_maps(height, width, reach, draws)
    displacements = 2 * draws.uniform(2, height, width) - 1
    displacements = size * gaussian_filter(displacements, sigma=(0, 0, deviation, deviation), mode="reflect", truncate=3.0)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    moved = np.empty(images.shape)
    for image in range(count):
        y, x = rows + displacements[image, 0], columns + displacements[image, 1]
        sources = np.einsum("ij,jhw->ihw", affine[image], np.stack([y, x, np.ones_like(x)]))
        for channel in range(channels):
            moved[image, ..., channel] = map_coordinates(images[image, ..., channel] / 255.0, sources, order=1, mode="mirror")
    return 255.0 * np.clip(moved, 0, 1)


def _affine_maps(height: int, width: int, reach: float, draws: Draws) -> np.ndarray:
    """Return random affine maps (images, 2, 3) of positions (row, column, 1) to positions in the source image.

    Each map takes three corners of a square in the middle, moved by at most `reach` in every coordinate, back to their places.
    """
    middle = np.array([height, width]) // 2
    half = min(height, width) // 3
    corners = middle + half * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = corners + reach * (2 * draws.uniform(3, 2) - 1)
    homogeneous = np.concatenate([moved, np.ones((len(moved), 3, 1))], axis=2)
    return np.linalg.solve(homogeneous, np.broadcast_to(corners.astype(np.float64), moved.shape)).transpose(0, 2, 1)
