"""Paired differences between two methods: estimate, interval, p-value and equivalence.

Methods are compared on the same seeds and the same test images. A difference that is a mean over images is a table of seeds ×
images, whose rows and columns are both random: other trainings and other images would give another difference. A difference of
any other metric has one value per seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.statistics import student
from harness.statistics.crossed import MeanSquares, crossed_mean, standard_error

Equivalence = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference between two methods over `seeds` seeds, and over `images` test images (None: seeds alone).

    `standard_error` and `degrees` are None for a single seed, which says nothing of other seeds. `squares` are the parts of the
    variance: rows are seeds, columns are images.
    """

    value: float
    standard_error: float | None
    degrees: float | None
    seeds: int
    images: int | None
    squares: MeanSquares | None

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the confidence interval value ± t · standard_error; None for a single seed."""
        if self.standard_error is None or self.degrees is None:
            return None
        half_width = student.quantile(self.degrees, 0.5 + level / 2) * self.standard_error
        return self.value - half_width, self.value + half_width

    @property
    def p_value(self) -> float | None:
        """The two-sided p-value of the t-test against a difference of 0; None for a single seed."""
        if self.standard_error is None or self.degrees is None:
            return None
        return student.two_sided_p(self.value, self.standard_error, self.degrees)

    def equivalence(self, margin: float) -> Equivalence:
        """Return whether the difference is smaller than the margin δ > 0: "yes", "no", or "undecided".

        It is "yes" if the 90 % interval lies within (−δ, δ), which is the test of two one-sided hypotheses at 5 %
        (Schuirmann 1987), and "no" if it lies outside.
        """
        interval = self.interval(0.90)
        if interval is None:
            return "undecided"
        low, high = interval
        if -margin < low and high < margin:
            return "yes"
        if low >= margin or high <= -margin:
            return "no"
        return "undecided"


def seed_difference(differences: np.ndarray) -> PairedDifference:
    """Return the mean of one difference per seed, float64 (seeds,), with seeds − 1 degrees of freedom.

    Its interval is about other seeds with the same test images.
    """
    seeds = len(differences)
    mean = float(differences.mean())
    error = standard_error(differences)
    if error is None:
        return PairedDifference(mean, None, None, seeds, None, None)
    return PairedDifference(mean, error, float(seeds - 1), seeds, None, MeanSquares(error**2, 0.0, 0.0))


def crossed_difference(differences: np.ndarray) -> PairedDifference:
    """Return the mean of a table of differences, float64 (seeds, images), with the variance of seeds crossed with images.

    Its interval is about other seeds and other test images. The variance and its degrees of freedom are those of
    `harness.statistics.CrossedMean`.
    """
    seeds, images = differences.shape
    estimate = crossed_mean([differences])
    if estimate.se is None:
        return PairedDifference(estimate.mean, None, None, seeds, images, None)
    return PairedDifference(estimate.mean, estimate.se, estimate.degrees, seeds, images, estimate.squares)


def planned_error(difference: PairedDifference, seeds: int) -> tuple[float, float]:
    """Return standard error and degrees of freedom to expect from `seeds` seeds, if the variances stay as estimated.

    More seeds average the variation over seeds and what varies with both, but not the variation over test images alone. Raise
    `ValueError` for a difference of a single seed.
    """
    squares = difference.squares
    if squares is None:
        raise ValueError("a difference of one seed has no variance")
    ratio = difference.seeds / seeds
    if difference.images is None:
        return math.sqrt(squares.rows * ratio), float(seeds - 1)
    rest = squares.rest * ratio
    rows = max(squares.rows, squares.rest) * ratio
    columns = max(squares.columns - squares.rest, 0.0) + rest
    variance, degrees = MeanSquares(rows, columns, rest).combined((seeds - 1, difference.images - 1))
    return math.sqrt(variance), degrees
