"""Corruptions that draw noise per pixel. Images are uint8 (images, height, width, channels), results float64 in 0 … 255.

Constants are those for 32×32 pixels, for severities 1 to 5 (Hendrycks and Dietterich 2019, their script for CIFAR).
"""

from __future__ import annotations

import numpy as np

from harness_vision.shift.draws import Draws

_GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)
_SHOT = (500, 250, 100, 75, 50)
_IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)
_SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)


def gaussian_noise(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Add normal noise to every value."""
    values = images / 255.0
    return 255.0 * np.clip(values + _GAUSSIAN[severity - 1] * draws.normal(*images.shape[1:]), 0, 1)


def shot_noise(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Replace every value by a Poisson variate with a mean of `rate` times it, divided by the rate."""
    from scipy.special import pdtr

    rate = _SHOT[severity - 1]
    uniform = draws.uniform(*images.shape[1:]).ravel()
    counts = np.zeros(images.size)
    possible = np.arange(rate + int(12 * np.sqrt(rate)) + 12)
    by_level = images.ravel().argsort(kind="stable")
    ends = np.bincount(images.ravel(), minlength=256).cumsum()
    for level, where in enumerate(np.split(by_level, ends[:-1])):
        cumulative = pdtr(possible, rate * (level / 255.0))
        counts[where] = cumulative.searchsorted(uniform[where], side="left")
    return 255.0 * np.clip(counts.reshape(images.shape) / rate, 0, 1)


def impulse_noise(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Set a share of the values to 0 or 255, with equal chances (salt and pepper)."""
    share = _IMPULSE[severity - 1]
    uniform = draws.uniform(*images.shape[1:])
    noisy = images.astype(np.float64)
    noisy[uniform < share] = 255.0
    noisy[uniform < share / 2] = 0.0
    return noisy


def speckle_noise(images: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Add normal noise to every value, in proportion to the value."""
    values = images / 255.0
    return 255.0 * np.clip(values + values * _SPECKLE[severity - 1] * draws.normal(*images.shape[1:]), 0, 1)
