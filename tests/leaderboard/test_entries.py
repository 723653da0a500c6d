"""Entries of a table: mean and standard deviation over seeds, the best one, and entries without a value."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from harness.leaderboard import Entry, render
from leaderboard.rows_and_boards import THREE_METHODS, board_of, entry_of, markdown_cells, row, seed_rows


def test_three_methods_over_three_seeds():
    """The table shows mean and sample standard deviation, and marks no best below six seeds."""
    assert markdown_cells(board_of(THREE_METHODS)) == [
        ["method", "ensemble_accuracy (%) ↑"],
        ["deep", "95.00 ± 1.00"],
        ["swe", "92.00 ± 2.00"],
        ["permuted", "95.00 ± 0.00"],
    ]


def test_the_whole_markdown_of_a_small_board():
    """It consists of title, table and caption."""
    assert render(board_of(seed_rows("deep", 94.0, 95.0) + seed_rows("swe", 90.0, 92.0))) == (
        "### paper: cifar10, resnet20\n\n"
        "| method   |   ensemble_accuracy (%) ↑ |\n"
        "|:---------|--------------------------:|\n"
        "| deep     |              94.50 ± 0.71 |\n"
        "| swe      |              91.00 ± 1.41 |\n\n"
        "M = 5. Mean ± standard deviation (ddof = 1) over 2 seeds (0, 1). No best is marked below 6 seeds.\n"
    )


def test_mean_and_standard_deviation_against_pandas():
    """Both agree with an independent implementation."""
    values = [93.1, 94.7, 92.2, 95.05]
    found = entry_of(board_of(seed_rows("deep", *values)), "deep")
    series = pd.Series(values)
    assert found.mean == pytest.approx(series.mean(), rel=1e-14)
    assert found.std == pytest.approx(series.std(ddof=1), rel=1e-14)


def test_one_seed():
    """The entry shows no ±, and the caption says why."""
    text = render(board_of([row(), row("swe", value=93.0)]))
    assert " 94.00 |" in text
    assert " ± " not in text
    assert "M = 5. One seed (0), so no spread. No best is marked below 6 seeds.\n" in text


def test_failed_seed():
    """The entry counts the done seeds, and a note gives the reason."""
    rows = [
        *seed_rows("deep", 94.0, 95.0, 96.0),
        *seed_rows("swe", 98.0, 99.0),
        row("swe", 2, None, message="member 3\ndiverged"),
    ]
    found = board_of(rows)
    assert [line[1] for line in markdown_cells(found)[1:]] == ["95.00 ± 1.00", "98.50 ± 0.71 (2/3)"]
    text = render(found)
    assert "\n- seed 2 of swe: failed: member 3 diverged\n" in text
    assert "(k/3): k of 3 seeds; such an entry is never the best." in text


def test_entries_without_any_value():
    """The table distinguishes failed, not yet computed and never measured."""
    rows = [
        *seed_rows("deep", 94.0, 95.0),
        *seed_rows("swe", None, None, message="out of memory"),
        *seed_rows("permuted", None, None, status="missing"),
        *seed_rows("mine", 94.0, 95.0, metric="other_metric"),
    ]
    found = board_of(rows)
    assert [line[1] for line in markdown_cells(found)[1:]] == ["94.50 ± 0.71", "failed", "missing", "—"]
    notes = [line for line in render(found).split("\n") if line.startswith("- ")]
    assert notes == ["- seeds 0, 1 of swe: failed: out of memory", "- seeds 0, 1 of permuted: not computed yet"]


def test_failure_without_a_recorded_reason():
    """The note says that no reason was recorded."""
    assert "- seed 0 of swe: failed: no reason recorded" in render(board_of([row(), row("swe", value=None)]))


def test_failure_of_one_metric():
    """The note names the metric if the method's other metrics have values."""
    rows = [row(), row(metric="joint_connectivity", value=None, message="singular")]
    assert "- seed 0 of deep, joint_connectivity: failed: singular\n" in render(board_of(rows))


def test_seed_without_a_row():
    """Every method is expected to have all seeds of the table; one that lacks a row is incomplete."""
    found = board_of([*seed_rows("deep", 94.0, 95.0, 96.0), *seed_rows("mine", 97.0, 98.0)])
    assert entry_of(found, "mine") == Entry("mine", "ensemble_accuracy", 97.5, math.sqrt(0.5), 2, 3, "incomplete")
    assert "- seed 2 of mine: no row\n" in render(found)


def test_nan_among_the_seeds():
    """The entry is NaN, has a mark and a note."""
    found = board_of([*seed_rows("deep", 94.0, math.nan, 96.0), *seed_rows("swe", 1.0, 2.0, 3.0)])
    assert [line[1] for line in markdown_cells(found)[1:]] == ["nan †", "2.00 ± 1.00"]
    text = render(found)
    assert "- † not a number: a value among the seeds is nan or infinite\n" in text
    assert "- seed 1 of deep: the value is nan\n" in text


def test_infinite_values():
    """An infinite mean is printed without a spread."""
    found = board_of([*seed_rows("deep", math.inf, 94.0), *seed_rows("swe", 1.0, 2.0), *seed_rows("mine", math.inf, -math.inf)])
    assert [line[1] for line in markdown_cells(found)[1:]] == ["inf", "1.50 ± 0.71", "nan †"]


def test_ensemble_sizes_that_differ():
    """The caption gives M for each method."""
    text = render(board_of([row(), row("swe", members=3), row("mine", members=0)]))
    assert "M = 5 (deep), 3 (swe), unknown (mine). One seed" in text
