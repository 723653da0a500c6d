"""Measure coverage and error rates of the harness's statistics by simulation, and print the tables of docs/statistics.md.

    python benchmarks/statistics/error_rates.py --repetitions 5000

It needs neither a store nor a data set. With 5,000 repetitions it takes a minute on one CPU core.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from harness.statistics import (
    MeanSquares,
    PairedDifference,
    crossed_difference,
    holm,
    seed_difference,
    seeds_for_equivalence,
    seeds_needed,
)

SEEDS = (3, 4, 5, 6, 8, 10)
IMAGES = 200
METHODS = 6

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Returns a table of differences with mean 0, (seeds, images)."""


def crossed(seeds_share: float, images_share: float, tail: str = "normal") -> Draw:
    """Return a draw of the crossed model, in which the shares of seeds and images in the variance of the mean are given.

    The shares are those at six seeds. `tail` is the distribution of the seeds' effects.
    """
    rest_share = 1 - seeds_share - images_share
    deviations = np.sqrt([6 * seeds_share, IMAGES * images_share, 6 * IMAGES * rest_share])

    def draw(generator: np.random.Generator, seeds: int) -> np.ndarray:
        seed = deviations[0] * standardized(generator, tail, seeds)[:, None]
        image = deviations[1] * generator.standard_normal(IMAGES)
        return seed + image + deviations[2] * generator.standard_normal((seeds, IMAGES))

    return draw


def standardized(generator: np.random.Generator, tail: str, size: int) -> np.ndarray:
    """Return numbers with mean 0 and variance 1 from a distribution."""
    if tail == "heavy":
        return generator.standard_t(4, size) / np.sqrt(2)  # Student's t with 4 degrees of freedom
    if tail == "skewed":
        return generator.exponential(size=size) - 1
    return generator.standard_normal(size)


def right_or_wrong(generator: np.random.Generator, seeds: int) -> np.ndarray:
    """Return differences of bits: two equally good methods of about 90 % accuracy, with shared and own hard images."""
    difficulty = 3.0 + 2.5 * generator.standard_normal(IMAGES)
    bits = []
    for _ in range(2):
        own = 0.7 * generator.standard_normal(IMAGES)
        seed = 0.15 * generator.standard_normal((seeds, 1))
        logits = difficulty + own + seed + generator.standard_normal((seeds, IMAGES))
        bits.append(generator.random((seeds, IMAGES)) < 1 / (1 + np.exp(-logits)))
    return 100.0 * (bits[0].astype(np.float64) - bits[1])


SCENARIOS: dict[str, Draw] = {
    "seeds vary most": crossed(0.9, 0.05),
    "images vary most": crossed(0.05, 0.9),
    "both alike": crossed(0.45, 0.45),
    "interaction most": crossed(0.05, 0.05),
    "seeds, heavy tails": crossed(0.9, 0.05, "heavy"),
    "seeds, skewed": crossed(0.9, 0.05, "skewed"),
    "right or wrong": right_or_wrong,
}


def covers(difference: PairedDifference, level: float = 0.95) -> bool:
    """Return whether an interval contains 0."""
    interval = difference.interval(level)
    assert interval is not None
    return interval[0] <= 0 <= interval[1]


def coverage(draw: Draw, seeds: int, repetitions: int, generator: np.random.Generator) -> tuple[float, float]:
    """Return the shares of 95 % intervals that contain the true difference: seeds × images, and seeds alone."""
    crossed_hits = alone_hits = 0
    for _ in range(repetitions):
        table = draw(generator, seeds)
        crossed_hits += covers(crossed_difference(table))
        alone_hits += covers(seed_difference(table.mean(axis=1)))
    return crossed_hits / repetitions, alone_hits / repetitions


def family_error(seeds: int, repetitions: int, generator: np.random.Generator, tail: str) -> float:
    """Return how often any of six equal methods is told from another, by paired t-tests over seeds with Holm's correction."""
    pairs = list(itertools.combinations(range(METHODS), 2))
    errors = 0
    for _ in range(repetitions):
        values = standardized(generator, tail, METHODS * seeds).reshape(METHODS, seeds)
        values = values + generator.standard_normal(seeds)  # what methods share in a seed
        p_values = [seed_difference(values[i] - values[j]).p_value or 0.0 for i, j in pairs]
        errors += bool((holm(p_values) < 0.05).any())
    return errors / repetitions


def equivalence_error(draw: Draw, seeds: int, repetitions: int, generator: np.random.Generator) -> float:
    """Return how often a difference that is exactly the margin is called equivalent, which should be 5 % at most."""
    margin = 4.0
    errors = 0
    for _ in range(repetitions):
        errors += crossed_difference(draw(generator, seeds) + margin).equivalence(margin) == "yes"
    return errors / repetitions


def planned_power(repetitions: int, generator: np.random.Generator) -> Iterator[tuple[str, int, float]]:
    """Yield a comparison, the number of seeds that would settle it, and how often it does, if variances are known."""
    draw = crossed(0.9, 0.05)
    for value in (1.0, 1.5, 2.5):
        seeds = seeds_needed(known(value)) or 0
        hits = sum(not covers(crossed_difference(draw(generator, seeds) + value)) for _ in range(repetitions))
        yield f"difference of {value:g}", seeds, hits / repetitions
    seeds = seeds_for_equivalence(known(0.0), 2.0) or 0
    hits = sum(crossed_difference(draw(generator, seeds)).equivalence(2.0) == "yes" for _ in range(repetitions))
    yield "equivalence, margin 2, difference 0", seeds, hits / repetitions


def known(value: float) -> PairedDifference:
    """Return a difference of two seeds whose estimated variances are the true ones of `crossed(0.9, 0.05)`."""
    rest = 6 * 0.05 / 2
    squares = MeanSquares(6 * 0.9 / 2 + rest, 0.05 + rest, rest)
    variance, degrees = squares.combined((1, IMAGES - 1))
    return PairedDifference(value, float(np.sqrt(variance)), degrees, 2, IMAGES, squares)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table in markdown."""
    print("| " + " | ".join(head) + " |")
    print("|:--" + "|--:" * (len(head) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5_000)
    repetitions = parser.parse_args().repetitions
    head = ["", *(f"S = {seeds}" for seeds in SEEDS)]
    crossed_rows, alone_rows, margin_rows = [], [], []
    for name, draw in SCENARIOS.items():
        generator = np.random.default_rng(0)
        found = [coverage(draw, seeds, repetitions, generator) for seeds in SEEDS]
        crossed_rows.append([name, *(f"{100 * hits:.1f}" for hits, _ in found)])
        alone_rows.append([name, *(f"{100 * hits:.1f}" for _, hits in found)])
        errors = [equivalence_error(draw, seeds, repetitions, generator) for seeds in SEEDS]
        margin_rows.append([name, *(f"{100 * error:.1f}" for error in errors)])
    print("Coverage of 95 % intervals of seeds x images, in percent\n")
    print_table(head, crossed_rows)
    print("The same of intervals of seeds alone, if other images count as well\n")
    print_table(head, alone_rows)
    print("False equivalence at a difference of the margin, in percent\n")
    print_table(head, margin_rows)
    family_rows = []
    for tail in ("normal", "heavy", "skewed"):
        generator = np.random.default_rng(1)
        errors = [family_error(seeds, repetitions, generator, tail) for seeds in SEEDS]
        family_rows.append([tail, *(f"{100 * error:.1f}" for error in errors)])
    print("Boards of six equal methods on which any pair is told apart, in percent\n")
    print_table(head, family_rows)
    power_rows = []
    for name, seeds, power in planned_power(repetitions, np.random.default_rng(2)):
        power_rows.append([name, str(seeds), f"{100 * power:.1f}"])
    print("Planned seeds, and how often they settle the comparison, in percent\n")
    print_table(["", "seeds", "settled"], power_rows)


if __name__ == "__main__":
    main()
