"""A board fitted to a terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from harness.leaderboard import Board, render
from harness.leaderboard.terminal import render_fitted
from leaderboard.rows_and_boards import board_of, row, seed_rows

METRICS = ("ensemble_accuracy", "mean_member_accuracy", "joint_connectivity", "new_epochs")


def wide_board(*methods: str) -> Board:
    """Return a board of four metrics and two data sets, hence with an overview."""
    rows = []
    for method in methods:
        for metric in METRICS:
            for dataset in ("cifar10", "tiny_imagenet"):
                rows += seed_rows(method, 94.0, 95.5, metric=metric, dataset=dataset)
    return board_of([*rows, row("failing", value=None, message="it diverged in epoch 3 of 110, with a loss of nan")])


def test_wide_terminal():
    """The board is the markdown, to the letter."""
    board = wide_board("deep", "swe")
    assert render_fitted(board, 300) == render(board, "markdown")


def test_wrapped_headers():
    """Headers are wrapped after parts of names, so that all columns stay in one table."""
    board = board_of([row(metric=metric) for metric in METRICS])
    assert render_fitted(board, 72).split("\n")[2:8] == [
        "| method | ensemble_ |    mean_ |       joint_ |   new_ |",
        "|        |  accuracy |  member_ | connectivity | epochs |",
        "|        |     (%) ↑ | accuracy |        (%) ↑ |  (%) ↑ |",
        "|        |           |    (%) ↑ |              |        |",
        "|:-------|----------:|---------:|-------------:|-------:|",
        "| deep   |     94.00 |    94.00 |        94.00 |  94.00 |",
    ]


def test_several_tables():
    """Columns that do not fit beside the others are in a second table, with the names of the methods."""
    board = board_of([row(metric=metric) for metric in METRICS])
    lines = render_fitted(board, 50).split("\n")
    assert [line for line in lines if line.startswith("| method")] == [
        "| method | ensemble_ |    mean_ |       joint_ |",
        "| method |   new_ |",
    ]
    assert sum(line.startswith("| deep") for line in lines) == 2


@pytest.mark.parametrize("width", [20, 33, 40, 60, 80, 100, 120])
def test_width(width: int):
    """No line is wider than the terminal, whatever the names, and no number is lost."""
    board = wide_board("deep", "a_method_with_a_very_long_name_of_its_own", "ensemble/学習/" + "x" * 70)
    lines = render_fitted(board, width).splitlines()
    assert max(map(cell_len, lines)) <= width
    if width >= 60:
        assert sum(line.count("94.75 ± 1.06") for line in lines) == render(board).count("94.75 ± 1.06")


def test_long_notes():
    """They are wrapped between words."""
    lines = render_fitted(wide_board("deep"), 60).splitlines()
    start = lines.index("- seed 0 of failing: failed: it diverged in epoch 3 of 110,")
    assert lines[start + 1] == "with a loss of nan"


def test_empty_board():
    """It says so."""
    assert render_fitted(board_of([]), 40) == "No rows to show.\n"
