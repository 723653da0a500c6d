"""Published numbers beside measured ones, and the file that holds them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.leaderboard import compare, read_reference, render
from harness.results.rows import Row
from leaderboard.rows_and_boards import MEASURED, board_of, markdown_cells, row, seed_rows

LINE_START = "Doe,1,cifar10,resnet20,deep,ensemble_accuracy"
REFERENCE_HEAD = "source,table,dataset,architecture,method,metric,value,spread,n,note\n"


def write_reference(tmp_path: Path, *lines: str, head: str = REFERENCE_HEAD) -> Path:
    """Write a reference file and return its path."""
    path = tmp_path / "reference.csv"
    path.write_text(head + "".join(f"{line}\n" for line in lines))
    return path


def comparison_line(
    tmp_path: Path, rows: list[Row], value: str, spread: str = "0.15", metric: str = "ensemble_accuracy"
) -> list[str]:
    """Return the line of the comparison with one published number."""
    published = read_reference(write_reference(tmp_path, f"Doe,2,cifar10,resnet20,deep,{metric},{value},{spread},3,"))
    return markdown_cells(compare(board_of(rows), published), table=1)[1]


def test_measured_beside_a_published_number(tmp_path):
    """The line gives both numbers with spread and n, the difference and the verdict."""
    assert comparison_line(tmp_path, MEASURED, "94.9") == [
        "deep",
        "ensemble_accuracy",
        "Doe, table 2",
        "94.40 ± 0.20 (n = 3)",
        "94.90 ± 0.15 (n = 3)",
        "-0.50",
        "agrees",
    ]


@pytest.mark.parametrize(("value", "word"), [("93.9", "agrees"), ("94.91", "differs"), ("93.89", "differs")])
def test_agreement_is_within_twice_the_combined_spread(tmp_path, value, word):
    """A difference equal to the limit counts as agreement, on both sides."""
    assert comparison_line(tmp_path, MEASURED, value)[-1] == word


@pytest.mark.parametrize(
    ("rows", "value", "spread", "word"),
    [
        (MEASURED[:1], "94.3", "0.1", "within theirs; no spread of ours"),
        (MEASURED[:1], "94.5", "0.1", "outside theirs; no spread of ours"),
        (MEASURED, "94.8", "", "within our spread"),
        (MEASURED, "94.81", "", "outside our spread"),
        (MEASURED[:1], "94.2", "", "no spread known"),
        ([row(value=None)], "94.2", "0.1", "no value of ours"),
        ([row(value=math.nan)], "94.2", "0.1", "no value of ours"),
    ],
)
def test_unknown_spread(tmp_path, rows, value, spread, word):
    """The verdict rests on the spread that is known, and says so."""
    assert comparison_line(tmp_path, rows, value, spread)[-1] == word


def test_published_numbers_without_a_counterpart(tmp_path):
    """The board ends with their count; numbers that are not in use do not count."""
    lines = [
        "Doe,1,cifar10,resnet20,deep,ensemble_accuracy,94,1,3,true,",
        "Doe,1,cifar10,resnet20,swe,ensemble_accuracy,94,1,3,true,",
        "Doe,2,cifar10,resnet20,swe,ensemble_accuracy,95,1,3,false,",
    ]
    head = REFERENCE_HEAD.replace("n,note", "n,use,note")
    published = read_reference(write_reference(tmp_path, *lines, head=head))
    one = compare(board_of(MEASURED), published)
    two = compare(board_of([row("mine")]), published)
    assert (one.unmatched, two.unmatched) == (1, 2)
    assert render(one).endswith("\n\n1 published number has no counterpart on this board.\n")
    assert render(two).endswith("\n\n2 published numbers have no counterpart on this board.\n")


def test_note_of_a_published_number(tmp_path):
    """It stands below the comparison that uses the number."""
    path = write_reference(tmp_path, "Doe,2,cifar10,resnet20,deep,ensemble_accuracy,94,1,3,table 1 says 93")
    text = render(compare(board_of(MEASURED), read_reference(path)))
    assert "\n- published for deep, ensemble_accuracy: table 1 says 93\n" in text


def test_comparisons_in_csv_and_json(tmp_path):
    """CSV has the published number in the line of its entry, JSON in the table's list of comparisons."""
    published = read_reference(write_reference(tmp_path, "Doe,2,cifar10,resnet20,deep,ensemble_accuracy,94.9,0.15,3,"))
    both = compare(board_of([*MEASURED, *seed_rows("swe", 1.0, 2.0, 3.0)]), published)
    deep, swe = csv.DictReader(io.StringIO(render(both, "csv")))
    columns = ("source", "table", "published", "published_spread", "published_n", "verdict")
    assert [deep[name] for name in columns] == ["Doe", "2", "94.9", "0.15", "3", "agrees"]
    assert float(deep["difference"]) == pytest.approx(-0.5)
    assert swe["verdict"] == ""
    table = json.loads(render(both, "json"))["tables"][0]
    assert table["comparisons"][0]["published"]["value"] == 94.9
    assert table["comparisons"][0]["verdict"] == "agrees"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{LINE_START},?,0.1,3,", ":2: value '?' is not a number"),
        (f"{LINE_START},nan,0.1,3,", ":2: nan ± 0.1 is no finite number with a spread of 0 or more"),
        (f"{LINE_START},94,-1,3,", ":2: 94 ± -1 is no finite number with a spread of 0 or more"),
        (f"{LINE_START},inf,,3,", ":2: inf ± nothing is no finite number with a spread of 0 or more"),
        (f"{LINE_START},94,1,three,", ":2: n 'three' is not an integer"),
        ("Doe,1,cifar10", ":2: 3 fields, the header has 10; was the file cut short?"),
    ],
)
def test_invalid_line_of_a_reference(tmp_path, line, message):
    """The error gives path, line and what is wrong."""
    path = write_reference(tmp_path, line)
    with pytest.raises(UserError) as error:
        read_reference(path)
    assert str(error.value) == f"{path}{message}"


def test_reference_with_two_numbers_in_use(tmp_path):
    """The error names both lines."""
    path = write_reference(tmp_path, f"{LINE_START},94,1,3,", f"{LINE_START},95,1,3,")
    with pytest.raises(UserError) as error:
        read_reference(path)
    what = "cifar10, resnet20, deep, ensemble_accuracy is in use at line 2 already"
    assert str(error.value) == f"{path}:3: {what}; set use to false in one of the two"


def test_invalid_use(tmp_path):
    """`use` is true or false; anything else is an error."""
    head = REFERENCE_HEAD.replace("n,note", "n,use,note")
    path = write_reference(tmp_path, f"{LINE_START},94,1,3,maybe,", head=head)
    with pytest.raises(UserError, match=r":2: use 'maybe' is neither true nor false$"):
        read_reference(path)
