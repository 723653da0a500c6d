"""Rows of several runs on one board, and rows that one table cannot hold."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from harness.errors import UserError
from harness.leaderboard import board, render
from harness.results.rows import frame
from leaderboard.rows_and_boards import CELL, board_of, entry_of, markdown_cells, row, seed_rows


def test_rows_of_two_folders():
    """Baselines of one folder and a new method of another stand in one table."""
    found = board({"runs/a": frame(seed_rows("deep", 94.0, 95.0)), "runs/b": frame(seed_rows("mine", 95.0, 96.0))})
    assert [line[0] for line in markdown_cells(found)[1:]] == ["deep", "mine"]
    assert entry_of(found, "mine").mean == 95.5


def test_rows_without_a_frame():
    """A list of rows makes the same board as their DataFrame."""
    rows = [*seed_rows("deep", 94.0, math.nan), *seed_rows("mine", 95.0, None)]
    assert render(board({"runs/a": rows}), "json") == render(board({"runs/a": frame(rows)}), "json")


def test_same_rows_in_two_folders():
    """Equal rows count once."""
    rows = seed_rows("deep", 94.0, math.nan)
    assert render(board({"runs/a": frame(rows), "runs/b": frame(rows)}), "json") == render(board_of(rows), "json")


def test_same_row_with_different_status():
    """A done row replaces a failed one, and a failed one replaces a missing one, in any order of the folders."""
    failed = frame([row(value=None, message="oops")])
    missing = frame([row(value=None, status="missing")])
    for frames in ([failed, frame([row()])], [frame([row()]), failed], [missing, frame([row()])]):
        assert entry_of(board(in_folders(frames)), "deep").mean == 94.0
    for frames in ([failed, missing], [missing, failed]):
        assert entry_of(board(in_folders(frames)), "deep").status == "failed"


def in_folders(frames: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return frames by folder name: runs/0, runs/1, …"""
    return {f"runs/{i}": frame for i, frame in enumerate(frames)}


FIRST = row()
SECOND = row(value=94.5, key=CELL)


@pytest.mark.parametrize(
    ("runs", "folders"),
    [
        ({"runs/a": frame([FIRST]), "runs/b": frame([SECOND])}, "runs/a and runs/b"),
        ({"runs/a": frame([FIRST, SECOND])}, "runs/a"),
    ],
)
def test_two_values_of_one_number(runs, folders):
    """The board is refused; the error names each folder once."""
    with pytest.raises(UserError) as error:
        board(runs)
    assert str(error.value) == (
        f"{folders}: ensemble_accuracy of deep, seed 0 (paper, cifar10, resnet20) is both 94.0 and 94.5; "
        "leave one run out, or give its benchmark another name"
    )


def test_two_values_of_a_detail():
    """They are refused only if the board shows the detail."""
    runs = in_folders([frame([row(), row(metric="new_epochs", value=epochs, main=False)]) for epochs in (10.0, 20.0)])
    assert len(board(runs).tables) == 1
    for metrics in ("all", "new_epochs"):
        with pytest.raises(UserError, match=r"^runs/0 and runs/1: new_epochs of deep, seed 0 .* is both 10\.0 and 20\.0; "):
            board(runs, metrics)


@pytest.mark.parametrize(
    ("changes", "problem", "remedy"),
    [
        (
            {"method": "swe", "metric_version": "accuracy@2"},
            "metric 'ensemble_accuracy' (paper, cifar10, resnet20) has metric_version ensemble_accuracy@1 and accuracy@2",
            "measure all of them with one version of the metric",
        ),
        (
            {"method": "swe", "unit": "share"},
            "metric 'ensemble_accuracy' (paper, cifar10, resnet20) has unit percent and share",
            "measure all of them with one version of the metric",
        ),
        (
            {"method": "swe", "better": "lower"},
            "metric 'ensemble_accuracy' (paper, cifar10, resnet20) has better higher and lower",
            "measure all of them with one version of the metric",
        ),
        (
            {"seed": 1, "options": '{"fork_epoch":10}'},
            "method 'deep' (paper, cifar10, resnet20) has options {} and {\"fork_epoch\":10}",
            "give variants of a method names of their own in the benchmark",
        ),
        (
            {"seed": 1, "members": 3},
            "method 'deep' (paper, cifar10, resnet20) has members 5 and 3",
            "give variants of a method names of their own in the benchmark",
        ),
    ],
)
def test_metric_or_method_that_differs_between_rows(changes, problem, remedy):
    """The board is refused: in one table a metric has one version and a method one configuration."""
    with pytest.raises(UserError) as error:
        board({"runs/a": frame([row()]), "runs/b": frame([row(**changes)])})
    expected = f"runs/a and runs/b: {problem}, which cannot stand in one table; {remedy}, or make a board of each"
    assert str(error.value) == expected


SETTING = "1a" * 32
OTHER_SETTING = "2b" * 32
TWO_SETTINGS = (
    "the rows of paper, cifar10, resnet20 come from two settings (data set × architecture × recipe), 1a1a1a1a1a1a and "
    "2b2b2b2b2b2b, which cannot stand in one table; leave one run out, run it again with the other's recipe, or give its "
    "benchmark another name"
)


@pytest.mark.parametrize(
    "changes",
    [{"method": "swe"}, {"seed": 1}, {}, {"method": "swe", "metric": "joint_connectivity"}, {"metric": "x", "main": False}],
    ids=["another method", "another seed", "the same place", "another metric", "a detail"],
)
def test_two_settings_in_one_table(changes):
    """The board is refused; the error names the folders, the command that shows the difference, and the next steps."""
    first = row(setting=SETTING)
    second = row(setting=OTHER_SETTING, **{"value": 93.0, "key": "cd" * 32, **changes})
    with pytest.raises(UserError) as error:
        board({"runs/a": frame([first]), "runs/b": frame([second])})
    command = f"; `harness diff {CELL[::-1][:12]} cdcdcdcdcdcd` says in what they differ"
    assert str(error.value) == f"runs/a and runs/b: {TWO_SETTINGS}{command}"


def test_two_settings_one_of_a_failed_row():
    """The setting of a failed row counts, also if a done row replaces it; the error names no keys, since it has none."""
    failed = row(value=None, setting=SETTING, key="")
    for other in (row(setting=OTHER_SETTING), row("swe", setting=OTHER_SETTING)):
        with pytest.raises(UserError) as error:
            board({"runs/a": frame([failed]), "runs/b": frame([other])})
        assert str(error.value) == f"runs/a and runs/b: {TWO_SETTINGS}"


def test_settings_that_may_differ():
    """Tables may differ in their settings, and a row without a setting fits any."""
    rows = [
        row(setting=SETTING),
        row("swe", setting=""),
        row(dataset="cifar100", setting=OTHER_SETTING),
        row("mine", setting=SETTING),
    ]
    assert [len(table.methods) for table in board_of(rows).tables] == [3, 1]


def test_failed_row_without_unit_and_direction():
    """The column takes unit and direction from the done rows."""
    rows = [row(value=None, unit="", better="", metric_version=""), row("swe")]
    assert markdown_cells(board_of(rows))[0] == ["method", "ensemble_accuracy (%) ↑"]
