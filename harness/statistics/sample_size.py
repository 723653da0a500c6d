"""How many seeds would settle a comparison, if difference and variances stay as estimated."""

from __future__ import annotations

from collections.abc import Callable

from harness.statistics import student
from harness.statistics.paired import PairedDifference, planned_error

MOST_SEEDS = 10_000
POWER = 0.8


def seeds_needed(difference: PairedDifference, level: float = 0.95) -> int | None:
    """Return the smallest number of seeds whose interval excludes 0 with a probability of 80 %.

    None if `MOST_SEEDS` are not enough: the difference is too small, or the variation over test images, which further seeds do
    not reduce, is too large.
    """
    tail = (1 - level) / 2

    def is_enough(seeds: int) -> bool:
        error, degrees = planned_error(difference, seeds)
        quantiles = student.quantile(degrees, 1 - tail) + student.quantile(degrees, POWER)
        return abs(difference.value) > quantiles * error

    return _smallest(difference, is_enough)


def seeds_for_equivalence(difference: PairedDifference, margin: float) -> int | None:
    """Return the smallest number of seeds that settle equivalence within the margin with a probability of about 80 %.

    A difference inside the margin is settled by the answer "yes", one outside by "no". None if `MOST_SEEDS` are not enough.
    """
    distance = margin - abs(difference.value)
    power = POWER
    if distance > 0:
        power = (1 + POWER) / 2  # both ends of the interval must be inside

    def is_enough(seeds: int) -> bool:
        error, degrees = planned_error(difference, seeds)
        quantiles = student.quantile(degrees, 0.95) + student.quantile(degrees, power)
        return abs(distance) > quantiles * error

    return _smallest(difference, is_enough)


def _smallest(difference: PairedDifference, is_enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number of seeds that is enough, at least the present one; None for a difference of one seed.

    More seeds are never worse, so that the number can be bisected.
    """
    if difference.squares is None or not is_enough(MOST_SEEDS):
        return None
    low, high = difference.seeds - 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high
