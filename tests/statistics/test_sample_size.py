"""How many seeds settle a comparison, against SciPy's formulas and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import MeanSquares, PairedDifference, crossed_difference, seed_difference
from harness.statistics.paired import planned_error
from harness.statistics.sample_size import seeds_for_equivalence, seeds_needed


def of_seeds(value: float, deviation: float, seeds: int = 3) -> PairedDifference:
    """Return a difference whose standard deviation over seeds is known."""
    variance = deviation**2 / seeds
    return PairedDifference(value, variance**0.5, seeds - 1.0, seeds, None, MeanSquares(variance, 0.0, 0.0))


def test_number_of_seeds_has_the_power_asked_for():
    """With as many seeds, the interval excludes 0 in 80 % of simulations; with two thirds of them in clearly fewer."""
    seeds = seeds_needed(of_seeds(1.0, 2.0))
    assert seeds is not None
    generator = np.random.default_rng(0)

    def power(count: int) -> float:
        hits = 0
        for _ in range(1500):
            p_value = seed_difference(generator.normal(1.0, 2.0, count)).p_value
            hits += p_value is not None and p_value < 0.05
        return hits / 1500

    assert power(seeds) == pytest.approx(0.8, abs=0.05)
    assert power(seeds * 2 // 3) < 0.7


def test_smallest_number():
    """It satisfies |d| > (t_0.975 + t_0.8)·s/√S, and one seed fewer does not."""
    seeds = seeds_needed(of_seeds(1.0, 2.0))
    assert seeds is not None
    for count, is_enough in ((seeds, True), (seeds - 1, False)):
        quantiles = stats.t.ppf(0.975, count - 1) + stats.t.ppf(0.8, count - 1)
        assert (quantiles * 2.0 / np.sqrt(count) < 1.0) == is_enough


def test_stricter_level():
    """More seeds are needed for a stricter level."""
    loose, strict = seeds_needed(of_seeds(1.0, 2.0)), seeds_needed(of_seeds(1.0, 2.0), 0.99)
    assert loose is not None
    assert strict is not None
    assert strict > loose


def test_no_number_is_enough():
    """A difference of 0 is never found, nor one that is small beside the variation over images; one seed cannot tell."""
    assert seeds_needed(of_seeds(0.0, 1.0)) is None
    images = PairedDifference(0.5, 1.0, 50.0, 5, 1000, MeanSquares(0.01, 1.0, 0.01))
    assert seeds_needed(images) is None
    assert seeds_for_equivalence(images, 0.6) is None
    assert seeds_needed(seed_difference(np.array([1.0]))) is None
    with pytest.raises(ValueError, match=r"^a difference of one seed has no variance$"):
        planned_error(seed_difference(np.array([1.0])), 5)


def test_equivalence():
    """A difference inside the margin needs fewer seeds, the farther it is from the margin, and one outside as well."""
    inside = [seeds_for_equivalence(of_seeds(value, 1.0), 1.0) or 0 for value in (0.0, 0.5, 0.9)]
    outside = [seeds_for_equivalence(of_seeds(value, 1.0), 1.0) or 0 for value in (3.0, 2.0, 1.1)]
    assert inside == sorted(inside)
    assert outside == sorted(outside)
    assert seeds_for_equivalence(of_seeds(1.0, 1.0), 1.0) is None


def test_planned_error_of_seeds_and_images():
    """Over simulated tables, the standard error planned from few seeds is on average that of many."""
    generator = np.random.default_rng(1)

    def table(seeds: int) -> np.ndarray:
        seed = generator.normal(0, 1, (seeds, 1))
        return seed + generator.normal(0, 3, (1, 60)) + generator.normal(0, 4, (seeds, 60))

    planned = [planned_error(crossed_difference(table(5)), 20)[0] ** 2 for _ in range(400)]
    measured = [(crossed_difference(table(20)).standard_error or 0.0) ** 2 for _ in range(400)]
    assert np.mean(planned) == pytest.approx(np.mean(measured), rel=0.1)
