"""Which entries of a board cannot be told apart from the best, and the letters of all groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from harness.leaderboard import Board, render
from harness.results.rows import Row
from harness.statistics import holm
from leaderboard.rows_and_boards import board_of, entry_of, markdown_cells, row, seed_rows

NOISE = (0.1, -0.2, 0.15, -0.05, 0.0, 0.02, -0.1)


def noisy(method: str, level: float, scale: float = 1.0, shift: int = 0, **changes: object) -> list[Row]:
    """Return seven rows near a level; another shift gives other differences to other methods."""
    noise = NOISE[shift:] + NOISE[:shift]
    return seed_rows(method, *(level + scale * value for value in noise), **changes)


def best_of(board: Board) -> list[str]:
    """Return the methods that are bold in the first column."""
    return [entries[0].method for entries in board.tables[0].entries if entries[0].best]


def test_group_of_the_best():
    """An entry that the tests do not tell from the best is bold as well; one that they do is not."""
    rows = [*noisy("deep", 95.0), *noisy("swe", 95.02, shift=3), *noisy("mine", 94.0, shift=2)]
    found = board_of(rows)
    assert best_of(found) == ["deep", "swe"]
    assert [cells[1] for cells in markdown_cells(found)[1:]] == ["**94.99 ± 0.12**", "**95.01 ± 0.12**", "93.99 ± 0.12"]


def test_paired_differences_count():
    """A small difference that all seeds share is found, however much the seeds vary."""
    assert best_of(board_of([*noisy("deep", 95.0, 20), *noisy("swe", 95.1, 20.1)])) == ["swe"]


def test_lower_is_better():
    """The group is that of the lowest mean."""
    rows = [*noisy("deep", 0.9, better="lower"), *noisy("swe", 5.0, better="lower", shift=1)]
    assert best_of(board_of(rows)) == ["deep"]


def test_metric_without_direction():
    """It has no best; its groups have letters all the same."""
    found = board_of([*noisy("deep", 1.0, better=""), *noisy("swe", 5.0, better="", shift=1)], letters=True)
    assert best_of(found) == []
    assert [entry_of(found, method).letters for method in ("deep", "swe")] == ["b", "a"]
    assert "Letters: entries of a column that share none are told apart; paired t-tests" in render(found)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_below_six_seeds(seeds: int):
    """Nothing is bold and nothing has a letter, however clear the difference; the caption says so."""
    rows = [*noisy("deep", 95.0)[:seeds], *noisy("swe", 50.0, shift=1)[:seeds]]
    found = board_of(rows, letters=True)
    assert best_of(found) == []
    assert entry_of(found, "deep").letters == ""
    for form in ("markdown", "html", "latex"):
        text = render(found, form)
        assert "No best is marked below 6 seeds." in text
        assert not [mark for mark in ("**", "<strong>", "textbf", "<sup>") if mark in text]


def test_one_method():
    """Nothing is bold, and the caption does not speak of it."""
    found = board_of(noisy("deep", 95.0))
    assert best_of(found) == []
    assert "Bold" not in render(found)
    assert "marked" not in render(board_of(noisy("deep", 95.0)[:2]))


def test_incomplete_and_nan_entries():
    """They are neither bold nor have letters, and do not count as a comparison."""
    rows = [*noisy("deep", 95.0), *noisy("swe", 99.0)[:6], row("swe", 6, None), *noisy("mine", 97.0)[:6]]
    rows += [row("mine", 6, float("nan")), *noisy("low", 90.0, shift=1)]
    found = board_of(rows, letters=True)
    assert best_of(found) == ["deep"]
    assert [entry_of(found, method).letters for method in ("deep", "swe", "mine", "low")] == ["a", "", "", "b"]


def test_nothing_to_compare_with():
    """The only complete entry is not bold: it was compared with none."""
    assert best_of(board_of([*noisy("deep", 95.0), *noisy("swe", 99.0)[:6]])) == []


def test_constant_differences():
    """Numbers without any variation differ if they print differently: costs, say."""
    rows = [*seed_rows("deep", *[36.0] * 6, better="lower"), *seed_rows("swe", *[30.0] * 6, better="lower")]
    assert best_of(board_of([*rows, *seed_rows("mine", *[30.0] * 6, better="lower")])) == ["swe", "mine"]


def test_rounding_errors_of_one_network():
    """Means that print alike do not differ, even if their difference is the same in all seeds."""
    rows = [*noisy("deep", 95.0), *seed_rows("permuted", *(95.0 + value + 1e-9 for value in NOISE))]
    assert best_of(board_of(rows)) == ["deep", "permuted"]


def test_against_scipy():
    """The pairs told apart are those of SciPy's paired t-tests with Holm's correction over all pairs."""
    generator = np.random.default_rng(0)
    values = generator.normal(95.0, 0.3, (6, 8)) + np.linspace(0, 1, 6)[:, None] + generator.normal(0, 1, 8)
    rows = []
    for number, line in enumerate(values.tolist()):
        rows += seed_rows(f"m{number}", *line)
    found = board_of(rows, letters=True)
    pairs = list(itertools.combinations(range(6), 2))
    adjusted = holm([stats.ttest_rel(values[i], values[j]).pvalue for i, j in pairs])
    assert 3 < (adjusted < 0.05).sum() < len(pairs)
    for (i, j), p_value in zip(pairs, adjusted):
        shared = set(entry_of(found, f"m{i}").letters) & set(entry_of(found, f"m{j}").letters)
        assert bool(shared) == (p_value >= 0.05)
    best = int(values.mean(axis=1).argmax())
    letters = set(entry_of(found, f"m{best}").letters)
    for number in range(6):
        entry = entry_of(found, f"m{number}")
        assert entry.best == bool(letters & set(entry.letters))


def test_letters_in_every_format():
    """They follow the entry; in LaTeX and HTML they are raised."""
    found = board_of([*noisy("deep", 95.0), *noisy("swe", 90.0, shift=1)], letters=True)
    assert "**94.99 ± 0.12** a |" in render(found)
    assert "<strong>94.99 ± 0.12</strong> <sup>a</sup></td>" in render(found, "html")
    assert r"\textbf{94.99 $\pm$ 0.12}\textsuperscript{a}" in render(found, "latex")
    assert '"letters": "b"' in render(found, "json")
