"""Paired differences: against SciPy, against formulas, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import MeanSquares, PairedDifference, crossed_difference, crossed_mean, seed_difference


def crossed_table(generator: np.random.Generator, seeds: int, images: int, spread: tuple[float, float, float]) -> np.ndarray:
    """Return a table of mean 0 with independent effects of seeds, images and both, with these standard deviations."""
    seed = spread[0] * generator.standard_normal((seeds, 1))
    image = spread[1] * generator.standard_normal((1, images))
    return seed + image + spread[2] * generator.standard_normal((seeds, images))


def test_seeds_alone_against_scipy():
    """p-value and interval are those of a paired t-test."""
    generator = np.random.default_rng(0)
    first, second = generator.random(7), generator.random(7) + 0.2
    found = seed_difference(first - second)
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert (found.seeds, found.images, found.degrees) == (7, None, 6.0)


def test_seeds_and_images_against_the_crossed_mean():
    """Estimate, standard error and degrees of freedom are those of the crossed mean, which has its own tests."""
    table = crossed_table(np.random.default_rng(1), 5, 40, (1, 2, 3))
    found = crossed_difference(table)
    expected = crossed_mean([table])
    assert (found.value, found.standard_error, found.degrees) == (expected.mean, expected.se, expected.degrees)
    assert found.interval() == expected.interval()
    assert (found.seeds, found.images) == (5, 40)


def test_variance_by_hand():
    """Two seeds and two images: (MS_seeds + MS_images − MS_rest) / 4, raised to the larger part."""
    found = crossed_difference(np.array([[3.0, 1.0], [1.0, 1.0]]))
    # row means 2, 1; column means 2, 1; mean 1.5; every residual is ±0.5
    assert found.squares == MeanSquares(0.25, 0.25, 0.25)
    assert found.standard_error == pytest.approx(0.5)


def test_never_narrower_than_other_seeds_or_other_images_alone():
    """The variance is at least that over other seeds, and that over other images."""
    for seed in range(50):
        found = crossed_difference(crossed_table(np.random.default_rng(seed), 3, 20, (0.1, 0.1, 1)))
        assert found.squares is not None
        assert found.standard_error is not None
        assert found.standard_error**2 >= max(found.squares.rows, found.squares.columns) - 1e-15


def test_one_seed():
    """There is neither an interval nor a p-value, and equivalence is undecided, whatever the number of images."""
    for found in (seed_difference(np.array([2.0])), crossed_difference(np.ones((1, 100)))):
        assert (found.interval(), found.p_value, found.equivalence(5.0)) == (None, None, "undecided")


def test_differences_without_variation():
    """Equal methods have p = 1; a difference that is the same in all seeds has p = 0."""
    assert seed_difference(np.zeros(3)).p_value == 1
    assert seed_difference(np.full(3, 2.0)).p_value == 0
    assert crossed_difference(np.zeros((3, 5))).p_value == 1
    assert seed_difference(np.full(3, 2.0)).interval() == (2, 2)


@pytest.mark.parametrize(
    ("value", "error", "answer"),
    [
        (0.0, 0.05, "yes"),
        (0.1, 0.05, "yes"),
        (0.2, 0.05, "undecided"),
        (-0.2, 0.05, "undecided"),
        (0.4, 0.05, "no"),
        (-0.4, 0.05, "no"),
        (0.0, 1.0, "undecided"),
        (0.25, 0.0, "no"),
    ],
)
def test_equivalence(value: float, error: float, answer: str):
    """Within ±0.25, by the 90 % interval: half-widths are 1.66 standard errors at 100 degrees of freedom."""
    found = PairedDifference(value, error, 100.0, 101, None, MeanSquares(error**2, 0.0, 0.0))
    assert found.equivalence(0.25) == answer


def test_equivalence_is_two_one_sided_tests():
    """The answer is yes exactly if SciPy's two one-sided t-tests both reject at 5 %."""
    generator = np.random.default_rng(2)
    answers = set()
    for _ in range(200):
        differences = generator.normal(0.1, 0.3, 8)
        lower = stats.ttest_1samp(differences, -0.3, alternative="greater").pvalue
        upper = stats.ttest_1samp(differences, 0.3, alternative="less").pvalue
        is_equivalent = seed_difference(differences).equivalence(0.3) == "yes"
        assert is_equivalent == (max(lower, upper) < 0.05)
        answers.add(is_equivalent)
    assert answers == {True, False}


REPETITIONS = 1500
TOLERANCE = 4 * np.sqrt(0.05 * 0.95 / REPETITIONS)  # four binomial standard errors


def coverage(seeds: int, spread: tuple[float, float, float]) -> float:
    """Return the share of 95 % intervals of simulated tables that contain the true difference, 0."""
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(REPETITIONS):
        low, high = crossed_difference(crossed_table(generator, seeds, 50, spread)).interval() or (1.0, 1.0)
        hits += low <= 0 <= high
    return hits / REPETITIONS


@pytest.mark.parametrize("seeds", [3, 6, 10])
@pytest.mark.parametrize("spread", [(1.0, 0.3, 0.5), (0.1, 3.0, 0.5)], ids=["seeds vary most", "images vary most"])
def test_coverage_where_one_source_dominates(seeds: int, spread: tuple[float, float, float]):
    """95 % of the intervals contain the true difference, up to the error of the simulation and 2 % at three seeds."""
    allowed = TOLERANCE + (0.02 if seeds == 3 else 0.01)
    assert coverage(seeds, spread) == pytest.approx(0.95, abs=allowed)


@pytest.mark.parametrize("seeds", [3, 6, 10])
def test_coverage_where_the_interaction_dominates(seeds: int):
    """The truncated variance is too large on average: at least 95 % of the intervals contain the true difference."""
    assert coverage(seeds, (0.01, 0.01, 1.0)) >= 0.95 - TOLERANCE


@pytest.mark.parametrize("seeds", [3, 6, 10])
def test_rate_of_false_equivalence(seeds: int):
    """A difference of exactly the margin is called equivalent in at most 5 % of simulations, and 2 % more at three seeds."""
    generator = np.random.default_rng(4)
    errors = 0
    for _ in range(REPETITIONS):
        table = crossed_table(generator, seeds, 50, (0.5, 1.0, 1.0)) + 2.0
        errors += crossed_difference(table).equivalence(2.0) == "yes"
    assert errors / REPETITIONS <= 0.05 + TOLERANCE + (0.02 if seeds == 3 else 0.0)
