"""Tables: which rows, metrics and data sets they hold, in which order, and how numbers are printed."""

from __future__ import annotations

import json
import math
import re

import pytest

from harness.errors import UserError
from harness.leaderboard import format_number, render
from leaderboard.rows_and_boards import board_of, markdown_cells, row, seed_rows


def test_main_metrics_and_details():
    """The board shows main metrics; `all` adds the details, and names select metrics in the given order."""
    rows = [row(), row(metric="joint_connectivity/pair_0_1", main=False), row(metric="joint_connectivity")]
    assert markdown_cells(board_of(rows))[0][1:] == ["ensemble_accuracy (%) ↑", "joint_connectivity (%) ↑"]
    assert len(markdown_cells(board_of(rows, "all"))[0]) == 4
    named = board_of(rows, "joint_connectivity/pair_0_1, ensemble_accuracy")
    assert [column.metric for column in named.tables[0].columns] == ["joint_connectivity/pair_0_1", "ensemble_accuracy"]


def test_metric_without_rows():
    """The error suggests the nearest name."""
    with pytest.raises(UserError) as error:
        board_of([row()], "ensemble_acuracy")
    expected = "no rows of metric 'ensemble_acuracy'; did you mean 'ensemble_accuracy'? known: ensemble_accuracy"
    assert str(error.value) == expected


def test_no_rows():
    """Every format for reading says that there are no rows."""
    empty = board_of([])
    assert render(empty) == "No rows to show.\n"
    assert "<p>No rows to show.</p>" in render(empty, "html")
    assert "% No rows to show." in render(empty, "latex")
    assert json.loads(render(empty, "json")) == {"tables": []}


def test_one_table_per_setup_and_an_overview_of_data_sets():
    """Each benchmark × data set × architecture has a table; an overview precedes data sets that share the other two."""
    rows = [row(), row("swe", value=93.0), row(dataset="cifar100", value=78.0), row(architecture="vit", value=80.0)]
    found = board_of(rows)
    assert [(t.dataset, t.architecture) for t in found.tables] == [
        ("cifar10", "resnet20"),
        ("cifar100", "resnet20"),
        ("cifar10", "vit"),
    ]
    titles = re.findall(r"^### (.*)$", render(found), flags=re.M)
    assert titles == [
        "paper: all data sets, resnet20",
        "paper: cifar10, resnet20",
        "paper: cifar100, resnet20",
        "paper: cifar10, vit",
    ]
    assert markdown_cells(found) == [
        ["dataset", "metric", "deep", "swe"],
        ["cifar10", "ensemble_accuracy (%) ↑", "94.00", "93.00"],
        ["cifar100", "ensemble_accuracy (%) ↑", "78.00", "—"],
    ]


def test_order_of_methods_and_metrics():
    """Both appear in the order of the rows, not in alphabetical order."""
    rows = [row("swe", metric="z"), row("swe", metric="a"), row("deep", metric="a"), row("deep", metric="z")]
    assert [line[0] for line in markdown_cells(board_of(rows))] == ["method", "swe", "deep"]
    assert [column.metric for column in board_of(rows).tables[0].columns] == ["z", "a"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (94.4349, "percent", "94.43"),
        (-0.004, "percent", "0.00"),
        (0.0, "percent", "0.00"),
        (550.0, "epochs", "550"),
        (146.6667, "epochs", "146.7"),
        (0.0, "epochs", "0"),
        (0.04444444, "", "0.04444"),
        (1.0, "", "1.000"),
        (-12.34567, "nats", "-12.35"),
        (123456.7, "", "123457"),
        (0.0, "", "0"),
        (1.23456e-7, "", "1.235e-07"),
        (1.5e300, "percent", "1.5e+300"),
        (math.inf, "percent", "inf"),
    ],
)
def test_printed_digits(value, unit, text):
    """A percentage has two decimals, epochs have at most one, and other numbers have four significant digits."""
    assert format_number(value, unit) == text


def test_decimals_of_a_spread():
    """Mean and spread have the same number of decimals, also if the spread is larger."""
    rows = [
        *seed_rows("deep", 0.04, 0.05, metric="variance", unit=""),
        *seed_rows("swe", -20.0, 20.0, metric="variance", unit=""),
        *seed_rows("mine", 100.0, 101.0, metric="variance", unit=""),
    ]
    assert [line[1] for line in markdown_cells(board_of(rows))[1:]] == ["0.04500 ± 0.00707", "0.00 ± 28.28", "100.5 ± 0.7"]
