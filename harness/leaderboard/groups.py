"""Which entries of a column cannot be told apart: paired t-tests over seeds, from the rows alone.

Below six seeds nothing is marked. With so few seeds a significant difference rests on the assumption that differences are
normal: the smallest two-sided p-value of a sign test of five seeds is 0.0625. Differences are those on the benchmark's test
images. `harness compare` also takes into account that other images would give other differences, which rows cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.leaderboard.numerals import format_number
from harness.leaderboard.tables import Column, Entry
from harness.statistics import compact_letters, holm
from harness.statistics.student import two_sided_p_values

MIN_SEEDS = 6
LEVEL = 0.05


def mark_groups(entries: Sequence[Entry], values: Sequence[Sequence[float]], column: Column, letters: bool) -> list[Entry]:
    """Return the entries of a column with the group of the best marked, and with letters if they are asked for.

    `values` holds each entry's values by seed, in one order of the seeds. Only complete, finite entries of sound ensembles are
    compared, all pairs of them in one family. Without a direction, no entry is the best.
    """
    compared = [index for index, entry in enumerate(entries) if _is_comparable(entry)]
    if len(compared) < 2 or entries[compared[0]].expected < MIN_SEEDS:
        return list(entries)
    compared.sort(key=lambda index: _rank(entries[index], column))
    different = _different_pairs([values[index] for index in compared], column.unit)
    marked = list(entries)
    groups = compact_letters(len(compared), different) if letters else [""] * len(compared)
    for position, index in enumerate(compared):
        is_best = bool(column.better) and (0, position) not in different
        marked[index] = replace(entries[index], best=is_best, letters=groups[position])
    return marked


def _is_comparable(entry: Entry) -> bool:
    """Return whether an entry is complete and finite, and its ensembles are not degenerate."""
    return entry.status == "done" and not entry.warnings and entry.mean is not None and math.isfinite(entry.mean)


def _rank(entry: Entry, column: Column) -> float:
    """Return a number that is the lower, the better an entry is; without a direction, high means come first."""
    mean = entry.mean or 0.0
    return mean if column.better == "lower" else -mean


def _different_pairs(values: Sequence[Sequence[float]], unit: str) -> set[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of entries whose means differ, with Holm's correction over all pairs.

    Means that print alike do not differ: rounding errors of one network may be a significant difference.
    """
    table = np.asarray(values, dtype=np.float64)  # (entries, seeds)
    first, second = np.triu_indices(len(table), 1)
    adjusted = holm(_p_values(table[first] - table[second]))
    texts = [format_number(mean, unit) for mean in table.mean(axis=1).tolist()]
    different = set()
    for i, j, p_value in zip(first.tolist(), second.tolist(), adjusted.tolist()):
        if p_value < LEVEL and texts[i] != texts[j]:
            different.add((i, j))
    return different


def _p_values(differences: np.ndarray) -> np.ndarray:
    """Return the p-values of paired t-tests, (pairs,), from differences (pairs, seeds)."""
    seeds = differences.shape[1]
    means = differences.mean(axis=1)
    errors = differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.where(means == 0, 0.0, means / errors)
    return two_sided_p_values(statistics, seeds - 1)
