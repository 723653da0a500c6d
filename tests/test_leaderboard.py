"""The board against tables computed by hand; hostile names in every format; the paper's numbers as the project ships them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.cli.leaderboard import leaderboard
from harness.errors import UserError
from harness.leaderboard import FORMATS, Board, Entry, board, compare, format_number, read_reference, render
from harness.results.rows import Row, frame, write_rows

PAPER = Path(__file__).parents[1] / "benchmarks" / "reference" / "paper.csv"
ACCURACY, CELL = "ensemble_accuracy", "ab" * 32


def row(method: str = "deep", seed: int = 0, value: float | None = 94.0, metric: str = ACCURACY, **changes: Any) -> Row:
    """Return a row; one without a value is failed unless said otherwise."""
    status = changes.pop("status", "done" if value is not None else "failed")
    plain: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "cifar10",
        "architecture": "resnet20",
        "unit": "percent",
        "better": "higher",
        "members": 5,
        "metric_version": f"{metric}@1",
        "options": "{}",
        "cell": CELL,
        "key": CELL[::-1],
    }
    return Row(**{**plain, **changes}, method=method, seed=seed, metric=metric, value=value, status=status)


def seeds(method: str, *values: float | None, **changes: Any) -> list[Row]:
    """Return a row a value, for seeds 0, 1, …"""
    return [row(method, seed, value, **changes) for seed, value in enumerate(values)]


def made(rows: list[Row], metrics: str = "main") -> Board:
    """Return the board of one run."""
    return board({"runs/a": frame(rows)}, metrics)


def entry(board: Board, method: str, metric: str = "ensemble_accuracy", table: int = 0) -> Entry:
    """Return one entry of a board."""
    entries = (e for line in board.tables[table].entries for e in line)
    return next(e for e in entries if (e.method, e.metric) == (method, metric))


def texts(board: Board, table: int = 0) -> list[list[str]]:
    """Return the cells of one markdown table, header first, padding stripped."""
    lines = [line for line in render(board).split("\n") if line.startswith("|")]
    starts = [i for i, line in enumerate(lines) if line.startswith("|:")]
    first = starts[table] - 1
    last = starts[table + 1] - 1 if table + 1 < len(starts) else len(lines)
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in [lines[first], *lines[first + 2 : last]]]


THREE = [*seeds("deep", 94.0, 95.0, 96.0), *seeds("swe", 90.0, 92.0, 94.0), *seeds("permuted", 95.0, 95.001, 94.999)]
"""Means 95, 92, 95; sample standard deviations 1, 2, 0.001."""


# What the board says


def test_three_methods_over_three_seeds():
    """Mean and sample standard deviation, by hand; the two that print alike are both the best."""
    assert texts(made(THREE)) == [
        ["method", "ensemble_accuracy (%) ↑"],
        ["deep", "**95.00 ± 1.00**"],
        ["swe", "92.00 ± 2.00"],
        ["permuted", "**95.00 ± 0.00**"],
    ]


def test_the_whole_markdown_of_a_small_board():
    """The text is what people paste: title, table, caption."""
    assert render(made(seeds("deep", 94.0, 95.0) + seeds("swe", 90.0, 92.0))) == (
        "### paper: cifar10, resnet20\n\n"
        "| method   |   ensemble_accuracy (%) ↑ |\n"
        "|:---------|--------------------------:|\n"
        "| deep     |          **94.50 ± 0.71** |\n"
        "| swe      |              91.00 ± 1.41 |\n\n"
        "M = 5. Mean ± standard deviation over 2 seeds (0, 1), ddof = 1. Best of a column in bold.\n"
    )


def test_the_mean_and_deviation_agree_with_pandas():
    """An independent reference for the arithmetic."""
    values = [93.1, 94.7, 92.2, 95.05]
    found, series = entry(made(seeds("deep", *values)), "deep"), pd.Series(values)
    assert found.mean == pytest.approx(series.mean(), rel=1e-14)
    assert found.std == pytest.approx(series.std(ddof=1), rel=1e-14)


def test_a_lower_metric_and_one_without_direction():
    """The direction is the metric's; without one nothing is the best."""
    rows = [
        *seeds("deep", 0.2, metric="brier_score", unit="", better="lower"),
        *seeds("swe", 0.1, metric="brier_score", unit="", better="lower"),
        *seeds("deep", 1.0, metric="spread", unit="nats", better=""),
        *seeds("swe", 2.0, metric="spread", unit="nats", better=""),
    ]
    assert texts(made(rows)) == [
        ["method", "brier_score ↓", "spread (nats)"],
        ["deep", "0.2000", "1.000"],
        ["swe", "**0.1000**", "2.000"],
    ]


def test_one_seed_has_no_spread():
    """n = 1 shows no ±, and the caption says why."""
    text = render(made([row(), row("swe", value=93.0)]))
    assert "**94.00**" in text
    assert " ± " not in text
    assert "M = 5. One seed (0), so no spread. Best of a column in bold.\n" in text


def test_a_method_alone_is_not_the_best():
    """There is no contest to win."""
    assert not entry(made(seeds("deep", 94.0, 95.0)), "deep").best


def test_a_failed_seed_is_counted_and_explained_and_never_wins():
    """The higher mean of two seeds out of three is not the best."""
    rows = [*seeds("deep", 94.0, 95.0, 96.0), *seeds("swe", 98.0, 99.0), row("swe", 2, None, message="member 3\ndiverged")]
    found = made(rows)
    assert [line[1] for line in texts(found)[1:]] == ["**95.00 ± 1.00**", "98.50 ± 0.71 (2/3)"]
    text = render(found)
    assert "\n- seed 2 of swe: failed: member 3 diverged\n" in text
    assert "(k/3): k of 3 seeds; such an entry is never the best." in text


def test_cells_without_any_value():
    """Failed, not yet computed and never measured are told apart."""
    rows = [
        *seeds("deep", 94.0, 95.0),
        *seeds("swe", None, None, message="out of memory"),
        *seeds("permuted", None, None, status="missing"),
        *seeds("mine", 94.0, 95.0, metric="other_metric"),
    ]
    found = made(rows)
    assert [line[1] for line in texts(found)[1:]] == ["**94.50 ± 0.71**", "failed", "missing", "—"]
    notes = [line for line in render(found).split("\n") if line.startswith("- ")]
    assert notes == ["- seeds 0, 1 of swe: failed: out of memory", "- seeds 0, 1 of permuted: not computed yet"]


def test_a_failure_without_a_reason_is_said_to_have_none():
    """Nothing is left blank."""
    assert "- seed 0 of swe: failed: no reason recorded" in render(made([row(), row("swe", value=None)]))


def test_one_metric_of_a_cell_failed():
    """The metric is named where the rest of the cell is fine."""
    rows = [row(), row(metric="joint_connectivity", value=None, message="singular")]
    assert "- seed 0 of deep, joint_connectivity: failed: singular\n" in render(made(rows))


def test_a_seed_that_nobody_wrote_rows_for():
    """Seeds are those of the table: whoever lacks one is incomplete even if no row says so."""
    found = made([*seeds("deep", 94.0, 95.0, 96.0), *seeds("mine", 97.0, 98.0)])
    assert entry(found, "mine") == Entry("mine", "ensemble_accuracy", 97.5, math.sqrt(0.5), 2, 3, "incomplete")
    assert "- seed 2 of mine: no row\n" in render(found)


def test_nan_never_averages_away():
    """One NaN among the seeds is the entry; it is marked, explained and not the best."""
    found = made([*seeds("deep", 94.0, math.nan, 96.0), *seeds("swe", 1.0, 2.0, 3.0)])
    assert [line[1] for line in texts(found)[1:]] == ["nan †", "**2.00 ± 1.00**"]
    text = render(found)
    assert "- † not a number: a value among the seeds is nan or infinite\n" in text
    assert "- seed 1 of deep: the value is nan\n" in text


def test_infinite_values_are_shown_and_win_nothing():
    """An infinite mean is printed as such, without a spread."""
    found = made([*seeds("deep", math.inf, 94.0), *seeds("swe", 1.0, 2.0), *seeds("mine", math.inf, -math.inf)])
    assert [line[1] for line in texts(found)[1:]] == ["inf", "**1.50 ± 0.71**", "nan †"]


def test_sizes_that_differ_are_told_by_method():
    """M belongs to the comparison."""
    text = render(made([row(), row("swe", members=3), row("mine", members=0)]))
    assert "M = 5 (deep), 3 (swe), unknown (mine). One seed" in text


def test_details_stay_out_unless_asked_for():
    """The board shows main metrics; `all` and names show others, names in their order."""
    rows = [row(), row(metric="joint_connectivity/pair_0_1", main=False), row(metric="joint_connectivity")]
    assert texts(made(rows))[0][1:] == ["ensemble_accuracy (%) ↑", "joint_connectivity (%) ↑"]
    assert len(texts(made(rows, "all"))[0]) == 4
    named = made(rows, "joint_connectivity/pair_0_1, ensemble_accuracy")
    assert [column.metric for column in named.tables[0].columns] == ["joint_connectivity/pair_0_1", "ensemble_accuracy"]


def test_a_metric_that_has_no_rows():
    """The nearest name is offered."""
    with pytest.raises(UserError) as error:
        made([row()], "ensemble_acuracy")
    expected = "no rows of metric 'ensemble_acuracy'; did you mean 'ensemble_accuracy'? known: ensemble_accuracy"
    assert str(error.value) == expected


def test_no_rows():
    """An empty run is said to be empty in every format meant for reading."""
    empty = made([])
    assert render(empty) == "No rows to show.\n"
    assert "<p>No rows to show.</p>" in render(empty, "html")
    assert "% No rows to show." in render(empty, "latex")
    assert json.loads(render(empty, "json")) == {"tables": []}


def test_a_table_each_and_an_overview_of_data_sets():
    """Benchmark, data set and architecture part the tables; data sets that share the others are first shown together."""
    rows = [row(), row("swe", value=93.0), row(dataset="cifar100", value=78.0), row(architecture="vit", value=80.0)]
    found = made(rows)
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
    assert texts(found) == [
        ["dataset", "metric", "deep", "swe"],
        ["cifar10", "ensemble_accuracy (%) ↑", "**94.00**", "93.00"],
        ["cifar100", "ensemble_accuracy (%) ↑", "78.00", "—"],
    ]


def test_methods_and_metrics_stand_in_order_of_first_appearance():
    """The order is the benchmark's, not the alphabet's."""
    rows = [row("swe", metric="z"), row("swe", metric="a"), row("deep", metric="a"), row("deep", metric="z")]
    assert [line[0] for line in texts(made(rows))] == ["method", "swe", "deep"]
    assert [column.metric for column in made(rows).tables[0].columns] == ["z", "a"]


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
def test_numbers_are_printed_with_the_digits_that_mean_something(value, unit, text):
    """Two decimals of a percent, one of an epoch, four significant digits of anything else."""
    assert format_number(value, unit) == text


def test_a_spread_has_the_decimals_of_its_mean():
    """Mean and ± line up, also where the spread is the larger."""
    rows = [
        *seeds("deep", 0.04, 0.05, metric="variance", unit=""),
        *seeds("swe", -20.0, 20.0, metric="variance", unit=""),
        *seeds("mine", 100.0, 101.0, metric="variance", unit=""),
    ]
    assert [line[1] for line in texts(made(rows))[1:]] == ["0.04500 ± 0.00707", "0.00 ± 28.28", "**100.5 ± 0.7**"]


# Several runs


def test_two_runs_side_by_side():
    """Baselines from one folder, a new method from another, in one table."""
    found = board({"runs/a": frame(seeds("deep", 94.0, 95.0)), "runs/b": frame(seeds("mine", 95.0, 96.0))})
    assert [line[0] for line in texts(found)[1:]] == ["deep", "mine"]
    assert entry(found, "mine").best


def test_what_is_there_twice_counts_once():
    """The same rows from a copy of a folder change nothing."""
    rows = seeds("deep", 94.0, math.nan)
    assert render(board({"runs/a": frame(rows), "runs/b": frame(rows)}), "json") == render(made(rows), "json")


def test_a_row_done_elsewhere_takes_the_place_of_a_failed_one():
    """Done before failed before missing, whichever folder comes first."""
    failed, missing = frame([row(value=None, message="oops")]), frame([row(value=None, status="missing")])
    for frames in ([failed, frame([row()])], [frame([row()]), failed], [missing, frame([row()])]):
        assert entry(board(dict(enumerate_names(frames))), "deep").mean == 94.0
    for frames in ([failed, missing], [missing, failed]):
        assert entry(board(dict(enumerate_names(frames))), "deep").status == "failed"


def enumerate_names(frames: list[pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    """Return frames under folder names."""
    return [(f"runs/{i}", frame) for i, frame in enumerate(frames)]


FIRST, SECOND = row(), row(value=94.5, key=CELL)


@pytest.mark.parametrize(
    ("runs", "folders"),
    [
        ({"runs/a": frame([FIRST]), "runs/b": frame([SECOND])}, "runs/a and runs/b"),
        ({"runs/a": frame([FIRST, SECOND])}, "runs/a"),
    ],
)
def test_two_values_for_one_place(runs, folders):
    """Neither is chosen silently; the folders are named, once if it is one."""
    with pytest.raises(UserError) as error:
        board(runs)
    assert str(error.value) == (
        f"{folders}: ensemble_accuracy of deep, seed 0 (paper, cifar10, resnet20) is both 94.0 and 94.5; "
        "leave one run out, or give its benchmark another name"
    )


def test_two_values_of_a_detail_that_is_not_shown():
    """They keep no board from being made; asked for, they are refused as any others."""
    rows = [[row(), row(metric="new_epochs", value=epochs, main=False)] for epochs in (10.0, 20.0)]
    runs = {f"runs/{i}": frame(some) for i, some in enumerate(rows)}
    assert len(board(runs).tables) == 1
    for metrics in ("all", "new_epochs"):
        with pytest.raises(UserError, match=r"^runs/0 and runs/1: new_epochs of deep, seed 0 .* is both 10\.0 and 20\.0; "):
            board(runs, metrics)


@pytest.mark.parametrize(
    ("changes", "told", "remedy"),
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
def test_rows_that_cannot_stand_in_one_table(changes, told, remedy):
    """A metric has one version, a method one configuration."""
    with pytest.raises(UserError) as error:
        board({"runs/a": frame([row()]), "runs/b": frame([row(**changes)])})
    expected = f"runs/a and runs/b: {told}, which cannot stand in one table; {remedy}, or make a board of each"
    assert str(error.value) == expected


ONE, OTHER = "1a" * 32, "2b" * 32
APART = (
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
    """Neither averaged nor laid side by side: the folders are named, what differs can be asked for, and there is a way out."""
    ours, theirs = row(setting=ONE), row(setting=OTHER, **{"value": 93.0, "key": "cd" * 32, **changes})
    with pytest.raises(UserError) as error:
        board({"runs/a": frame([ours]), "runs/b": frame([theirs])})
    told = f"; `harness diff {CELL[::-1][:12]} cdcdcdcdcdcd` says in what they differ"
    assert str(error.value) == f"runs/a and runs/b: {APART}{told}"


def test_two_settings_of_which_one_measured_nothing():
    """A failed row has no key to ask for, but its setting counts; so does one that another row would replace."""
    failed = row(value=None, setting=ONE, key="")
    for other in (row(setting=OTHER), row("swe", setting=OTHER)):
        with pytest.raises(UserError) as error:
            board({"runs/a": frame([failed]), "runs/b": frame([other])})
        assert str(error.value) == f"runs/a and runs/b: {APART}"


def test_settings_that_may_differ():
    """Each table has its own, and rows that do not know theirs go with any."""
    rows = [row(setting=ONE), row("swe", setting=""), row(dataset="cifar100", setting=OTHER), row("mine", setting=ONE)]
    assert [len(table.methods) for table in made(rows).tables] == [3, 1]


def test_a_failed_row_says_nothing_of_its_metric():
    """What never ran knows no unit and no direction; the column has those of the rows that did."""
    rows = [row(value=None, unit="", better="", metric_version=""), row("swe")]
    assert texts(made(rows))[0] == ["method", "ensemble_accuracy (%) ↑"]


# Published numbers

DOE = "Doe,1,cifar10,resnet20,deep,ensemble_accuracy"
REFERENCE_HEAD = "source,table,dataset,architecture,method,metric,value,spread,n,note\n"


def reference(tmp_path: Path, *lines: str, head: str = REFERENCE_HEAD) -> Path:
    """Return the path of a reference file."""
    path = tmp_path / "reference.csv"
    path.write_text(head + "".join(f"{line}\n" for line in lines))
    return path


def verdict(tmp_path: Path, rows: list[Row], value: str, spread: str = "0.15", metric: str = "ensemble_accuracy") -> list[str]:
    """Return the line of the comparison with one published number."""
    published = read_reference(reference(tmp_path, f"Doe,2,cifar10,resnet20,deep,{metric},{value},{spread},3,"))
    return texts(compare(made(rows), published), table=1)[1]


OURS = seeds("deep", 94.2, 94.4, 94.6)
"""Mean 94.4, standard deviation 0.2: with a published ± 0.15 the limit is 2·0.25 = 0.5."""


def test_ours_beside_a_published_number(tmp_path):
    """The line names both with their spread and n, the difference and the verdict."""
    assert verdict(tmp_path, OURS, "94.9") == [
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
    """On the limit is within it, on both sides."""
    assert verdict(tmp_path, OURS, value)[-1] == word


@pytest.mark.parametrize(
    ("rows", "value", "spread", "word"),
    [
        (OURS[:1], "94.3", "0.1", "within theirs; no spread of ours"),
        (OURS[:1], "94.5", "0.1", "outside theirs; no spread of ours"),
        (OURS, "94.8", "", "within our spread"),
        (OURS, "94.81", "", "outside our spread"),
        (OURS[:1], "94.2", "", "no spread known"),
        ([row(value=None)], "94.2", "0.1", "no value of ours"),
        ([row(value=math.nan)], "94.2", "0.1", "no value of ours"),
    ],
)
def test_a_spread_that_is_not_known_is_said(tmp_path, rows, value, spread, word):
    """One seed has no spread; the verdict rests on the other one and says so."""
    assert verdict(tmp_path, rows, value, spread)[-1] == word


def test_numbers_without_a_counterpart_are_counted(tmp_path):
    """Of the reference only a count is told; the numbers not in use do not count."""
    head = REFERENCE_HEAD.replace("n,note", "n,use,note")
    lines = ["Doe,1,cifar10,resnet20,{},ensemble_accuracy,94,1,3,{},".format(*m) for m in (("deep", "true"), ("swe", "true"))]
    lines.append("Doe,2,cifar10,resnet20,swe,ensemble_accuracy,95,1,3,false,")
    published = read_reference(reference(tmp_path, *lines, head=head))
    one, two = compare(made(OURS), published), compare(made([row("mine")]), published)
    assert (one.unmatched, two.unmatched) == (1, 2)
    assert render(one).endswith("\n\n1 published number has no counterpart on this board.\n")
    assert render(two).endswith("\n\n2 published numbers have no counterpart on this board.\n")


def test_notes_of_a_published_number_are_passed_on(tmp_path):
    """An erratum is told where the number is used."""
    path = reference(tmp_path, "Doe,2,cifar10,resnet20,deep,ensemble_accuracy,94,1,3,table 1 says 93")
    text = render(compare(made(OURS), read_reference(path)))
    assert "\n- published for deep, ensemble_accuracy: table 1 says 93\n" in text


def test_comparisons_in_csv_and_json(tmp_path):
    """The tidy form has them beside each entry, the nested one in a list of their own."""
    published = read_reference(reference(tmp_path, "Doe,2,cifar10,resnet20,deep,ensemble_accuracy,94.9,0.15,3,"))
    both = compare(made([*OURS, *seeds("swe", 1.0, 2.0, 3.0)]), published)
    deep, swe = csv.DictReader(io.StringIO(render(both, "csv")))
    beside = ("source", "table", "published", "published_spread", "published_n", "verdict")
    assert [deep[name] for name in beside] == ["Doe", "2", "94.9", "0.15", "3", "agrees"]
    assert float(deep["difference"]) == pytest.approx(-0.5)
    assert swe["verdict"] == ""
    table = json.loads(render(both, "json"))["tables"][0]
    assert table["comparisons"][0]["published"]["value"] == 94.9
    assert table["comparisons"][0]["verdict"] == "agrees"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{DOE},?,0.1,3,", ":2: value '?' is not a number"),
        (f"{DOE},nan,0.1,3,", ":2: nan ± 0.1 is no finite number with a spread of 0 or more"),
        (f"{DOE},94,-1,3,", ":2: 94 ± -1 is no finite number with a spread of 0 or more"),
        (f"{DOE},inf,,3,", ":2: inf ± nothing is no finite number with a spread of 0 or more"),
        (f"{DOE},94,1,three,", ":2: n 'three' is not an integer"),
        ("Doe,1,cifar10", ":2: 3 fields, the header has 10; was the file cut short?"),
    ],
)
def test_a_broken_reference_is_named(tmp_path, line, message):
    """Path, line and what is wrong."""
    path = reference(tmp_path, line)
    with pytest.raises(UserError) as error:
        read_reference(path)
    assert str(error.value) == f"{path}{message}"


def test_a_reference_that_gives_a_number_twice(tmp_path):
    """Which of two is meant must be said."""
    path = reference(tmp_path, f"{DOE},94,1,3,", f"{DOE},95,1,3,")
    with pytest.raises(UserError) as error:
        read_reference(path)
    what = "cifar10, resnet20, deep, ensemble_accuracy is in use at line 2 already"
    assert str(error.value) == f"{path}:3: {what}; set use to false in one of the two"


def test_a_reference_whose_use_is_unclear(tmp_path):
    """`use` is true or false."""
    head = REFERENCE_HEAD.replace("n,note", "n,use,note")
    path = reference(tmp_path, f"{DOE},94,1,3,maybe,", head=head)
    with pytest.raises(UserError, match=r":2: use 'maybe' is neither true nor false$"):
        read_reference(path)


# The paper's numbers, as shipped

TARGETS = """
cifar10       ensemble_accuracy   94.43 .12  94.17 .05  94.0 .18   94.43 .12    94.46 .20  94.45 .02
cifar10       joint_connectivity -71.74 2.38 -0.10 .10  1.48 .04  -25.84 4.20   -0.64 .11 -71.30 3.01
cifar100      ensemble_accuracy   78.15 .10  75.92 .20  74.95 .49  78.15 .10    77.56 .18  78.42 .20
cifar100      joint_connectivity -68.16 1.72  0.86 .18  3.30 .10  -44.89 .91     0.39 .11 -69.03 2.19
tiny_imagenet ensemble_accuracy   62.85 .12  59.83 .13  58.36 .6   62.85 .12    62.61 .43  63.29 .33
tiny_imagenet joint_connectivity -53.78 .85   0.75 .10  2.80 .14  -46.30 2.08   -1.35 .48 -56.54 .70
"""
"""ResNet20, M = 5, mean and ± over 3 seeds, the errata resolved; methods in the order of the paper's table 1."""
METHODS = ("deep", "constrained", "swe", "permuted", "distilled", "distilled_deep")


@pytest.fixture(scope="module")
def paper():
    """The reference that the project ships."""
    return read_reference(PAPER)


def test_every_number_of_the_three_tables_is_there(paper):
    """36 numbers a table; 84 different quantities, each in use exactly once, all over three seeds."""
    assert {table: sum(p.table == table for p in paper) for table in "124"} == {"1": 36, "2": 36, "4": 36}
    assert len(paper) == 108
    used = [(p.dataset, p.architecture, p.method, p.metric) for p in paper if p.use]
    every = {(p.dataset, p.architecture, p.method, p.metric) for p in paper}
    assert len(used) == len(set(used)) == 84
    assert set(used) == every
    assert {p.n for p in paper} == {3}
    assert {p.source for p in paper} == {"Lion et al. 2024 (arXiv 2402.03187)"}
    assert {p.metric for p in paper} == {"ensemble_accuracy", "joint_connectivity", "mean_member_accuracy"}
    assert {p.architecture for p in paper} == {"resnet20", "vit"}


def test_the_numbers_in_use_for_resnet20(paper):
    """The targets of the reproduction, digit by digit."""
    used = {(p.dataset, p.metric, p.method): (p.value, p.spread) for p in paper if p.use and p.architecture == "resnet20"}
    for line in TARGETS.strip().split("\n"):
        dataset, metric, *numbers = line.split()
        for method, value, spread in zip(METHODS, numbers[::2], numbers[1::2]):
            assert used[dataset, metric, method] == (float(value), float(spread)), (dataset, metric, method)


def test_mean_member_accuracy_and_vit(paper):
    """A few of tables 2 and 4, one from each corner."""
    used = {(p.table, p.dataset, p.architecture, p.method, p.metric): (p.value, p.spread) for p in paper if p.use}
    assert used["2", "cifar10", "resnet20", "constrained", "mean_member_accuracy"] == (93.15, 0.03)
    assert used["2", "tiny_imagenet", "vit", "distilled", "ensemble_accuracy"] == (42.31, 0.09)
    assert used["4", "cifar10", "resnet20", "deep", "mean_member_accuracy"] == (93.01, 0.08)
    assert used["4", "cifar10", "vit", "distilled_deep", "joint_connectivity"] == (-55.7, 1.71)
    assert used["4", "tiny_imagenet", "vit", "distilled_deep", "ensemble_accuracy"] == (44.29, 0.21)


@pytest.mark.parametrize(
    ("place", "printed", "used"),
    [
        (("cifar10", "distilled_deep", "joint_connectivity"), {"1": (-55.7, 1.71), "4": (-71.3, 3.01)}, "4"),
        (("cifar100", "distilled_deep", "joint_connectivity"), {"1": (-48.32, 0.15), "4": (-69.03, 2.19)}, "4"),
        (("tiny_imagenet", "distilled_deep", "joint_connectivity"), {"1": (-35.79, 0.77), "4": (-56.54, 0.7)}, "4"),
        (("cifar10", "distilled", "joint_connectivity"), {"1": (-0.14, 0.07), "2": (-0.64, 0.11)}, "2"),
        (("cifar10", "constrained", "joint_connectivity"), {"1": (-0.1, 0.1), "2": (-0.14, 0.07)}, "1"),
        (("tiny_imagenet", "deep", "ensemble_accuracy"), {"1": (62.85, 0.12), "4": (62.85, 0.2)}, "1"),
        (("tiny_imagenet", "constrained", "ensemble_accuracy"), {"1": (59.8, 0.1), "2": (59.83, 0.13)}, "2"),
    ],
)
def test_where_the_papers_tables_disagree(paper, place, printed, used):
    """Both numbers are listed with a note; one is in use."""
    found = [p for p in paper if (p.dataset, p.method, p.metric) == place and p.architecture == "resnet20"]
    assert {p.table: (p.value, p.spread) for p in found} == printed
    assert [p.table for p in found if p.use] == [used]
    assert all(p.note for p in found)


def test_what_is_printed_twice_and_alike_is_noted(paper):
    """A second printing is not in use and points to the first; nothing else is unused."""
    unused = [p for p in paper if not p.use]
    assert len(unused) == 24
    places = {(p.dataset, p.architecture, p.method, p.metric): p for p in paper if p.use}
    for p in unused:
        other = places[p.dataset, p.architecture, p.method, p.metric]
        same = (p.value, p.spread) == (other.value, other.spread)
        assert same == (p.note == f"as in table {other.table}"), p


def test_errata_say_so(paper):
    """Six places contradict each other, two lines each."""
    assert sum(p.note.startswith("erratum: ") for p in paper) == 12


def test_the_paper_beside_a_board_of_its_own_numbers(paper):
    """Values equal to the published ones agree everywhere."""
    rows = [
        replace(row(p.method, seed, p.value + shift, p.metric), dataset=p.dataset, architecture=p.architecture)
        for p in paper
        if p.use
        for seed, shift in enumerate((-0.01, 0.01))
    ]
    beside = compare(made(rows), paper)
    verdicts = [c.verdict for table in beside.tables for c in table.comparisons]
    assert verdicts == ["agrees"] * 84
    assert beside.unmatched == 0


# Formats


class Cells(HTMLParser):
    """Collects the text of an HTML fragment by the tags that enclose it, and every tag used."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += [value or "" for name, value in attrs if name == "class"]
        if tag in ("th", "td"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def parsed(fragment: str) -> Cells:
    """Return what a browser makes of HTML."""
    cells = Cells()
    cells.feed(fragment)
    cells.close()
    return cells


def rendered_cells(markdown: str) -> list[str]:
    """Return the text of all table cells, as an independent parser of GitHub's markdown sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    inside = [tokens[i + 1] for i, token in enumerate(tokens) if token.type in ("th_open", "td_open")]
    return ["".join(child.content for child in token.children or ()) for token in inside]


HOSTILE = [
    "a|b",
    "`code` **bold** _em_",
    "<script>alert('x')</script>",
    "[link](http://example.org)",
    "\\",
    "a\\|b",
    "&amp;",
    "$x^2$ ~~gone~~",
    "# title",
    "100% of {this} & that_one",
    '"quoted", with commas',
    "{{ 7 * 7 }}",
    "snake_case_name",
    "_start and end_",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_markdown(name):
    """An independent parser reads the name back, letter by letter, from one cell."""
    rows = [row(name, metric="m"), row("deep", metric="m", value=None, message=name)]
    cells = rendered_cells(render(made(rows)))
    assert len(cells) == 6
    assert cells[2] == name


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_html(name):
    """Names stay text: no tag is added, and the text comes back whole."""
    rows = [row(name, metric=name), row("deep", metric=name, value=None, message=name)]
    cells = parsed(render(made(rows), "html"))
    assert cells.texts[2] == name
    ours = {"div", "section", "h3", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "ul", "li", "wbr"}
    assert set(cells.tags) <= ours


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        (r"\input{secret}", r"\textbackslash{}input\{secret\}"),
        ("[3em] * ~^", r"{[}3em{]} {*} \textasciitilde{}\textasciicircum{}"),
        ("$x$ #1 <a|b>", r"\$x\$ \#1 \textless{}a\textbar{}b\textgreater{}"),
        ("k-means -1 ±", r"k-means $-$1 $\pm$"),
    ],
)
def test_hostile_names_in_latex(name, text):
    """No name can end a cell, start a command or be taken for an option."""
    assert f"\n{text} & 94.00 \\\\\n" in render(made([row(name)]), "latex")


def test_control_characters_never_reach_a_terminal():
    """Escapes, line breaks and direction marks of names and messages are gone from what is printed."""
    evil = "a\x1b[31mred\r\nb\u202ec\u2028d\x00"
    rows = [row(evil, benchmark=evil), row("deep", value=None, benchmark=evil, message=evil)]
    for form in ("markdown", "html", "latex"):
        text = render(made(rows), form)
        assert not set(text) & set("\x1b\r\u202e\u2028\x00")
        assert "b\ufffdc d" in text


def test_html_says_what_each_cell_is():
    """Classes for the best, for failures, for incomplete entries; the best is strong."""
    rows = [*seeds("deep", 94.0, 95.0), *seeds("swe", None, None), row("mine", value=99.0)]
    text = render(made(rows), "html")
    assert '<td class="done best"><strong>94.50 ± 0.71</strong></td>' in text
    assert '<td class="failed">failed</td>' in text
    assert '<td class="incomplete">99.00 (1/2)</td>' in text
    assert '<th scope="row">deep</th>' in text
    assert parsed(text).classes[:2] == ["leaderboard", "board"]


def test_the_whole_latex_of_a_small_board():
    """Booktabs, numbers with real minus signs."""
    rows = [row(metric="q", value=-71.74), row("swe", metric="q", value=None, message="out of memory")]
    assert render(made(rows), "latex").split("\n") == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{paper: cifar10, resnet20. M = 5. One seed (0), so no spread. Best of a column in bold.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & q (\%) $\uparrow$ \\",
        r"\midrule",
        r"deep & \textbf{$-$71.74} \\",
        r"swe & failed \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize seed 0 of swe: failed: out of memory",
        r"\end{table}",
        "",
    ]


def test_the_tidy_csv():
    """One line an entry, numbers with all digits, empty where there is none."""
    rows = [*seeds("deep", 94.0, 95.0), row("swe", 0, 0.1 + 0.2), row("swe", 1, None), *seeds("permuted", None, None)]
    assert render(made(rows), "csv").split("\n") == [
        "benchmark,dataset,architecture,method,metric,mean,std,n,expected,best,status,warning",
        "paper,cifar10,resnet20,deep,ensemble_accuracy,94.5,0.7071067811865476,2,2,true,done,",
        "paper,cifar10,resnet20,swe,ensemble_accuracy,0.30000000000000004,,1,2,false,incomplete,",
        "paper,cifar10,resnet20,permuted,ensemble_accuracy,,,0,2,false,failed,",
        "",
    ]


def test_the_nested_json():
    """The same structure for programs; NaN, which JSON lacks, is null and named by the status."""
    rows = [*seeds("deep", 94.0, math.nan), *seeds("swe", 1.0, None, message="diverged")]
    assert json.loads(render(made(rows), "json")) == {
        "tables": [
            {
                "benchmark": "paper",
                "dataset": "cifar10",
                "architecture": "resnet20",
                "seeds": [0, 1],
                "ddof": 1,
                "columns": [
                    {"metric": "ensemble_accuracy", "unit": "percent", "better": "higher", "version": "ensemble_accuracy@1"}
                ],
                "methods": [
                    {
                        "name": "deep",
                        "members": 5,
                        "options": "{}",
                        "entries": [
                            {
                                "method": "deep",
                                "metric": "ensemble_accuracy",
                                "mean": None,
                                "std": None,
                                "n": 2,
                                "expected": 2,
                                "status": "nan",
                                "best": False,
                                "warnings": [],
                                "text": "nan †",
                            }
                        ],
                    },
                    {
                        "name": "swe",
                        "members": 5,
                        "options": "{}",
                        "entries": [
                            {
                                "method": "swe",
                                "metric": "ensemble_accuracy",
                                "mean": 1.0,
                                "std": None,
                                "n": 1,
                                "expected": 2,
                                "status": "incomplete",
                                "best": False,
                                "warnings": [],
                                "text": "1.00 (1/2)",
                            }
                        ],
                    },
                ],
                "problems": [
                    {"method": "deep", "seeds": [1], "metrics": [], "message": "the value is nan"},
                    {"method": "swe", "seeds": [1], "metrics": [], "message": "failed: diverged"},
                ],
                "warnings": [],
            }
        ]
    }


def test_an_unknown_format():
    """The nearest is offered."""
    with pytest.raises(UserError) as error:
        render(made([row()]), "markdwon")
    assert str(error.value) == "unknown format 'markdwon'; did you mean 'markdown'? known: csv, html, json, latex, markdown"


any_text = st.text(st.characters(exclude_categories=()), max_size=6)


@st.composite
def results(draw: st.DrawFn) -> list[Row]:
    """Rows of one benchmark with any names and values, some failed, some lacking."""
    benchmark, architecture = draw(any_text), draw(any_text)
    methods = draw(st.lists(any_text, min_size=1, max_size=3, unique=True))
    directions = st.tuples(any_text, st.sampled_from(["higher", "lower", ""]))
    columns = draw(st.dictionaries(any_text, directions, min_size=1, max_size=2))
    found = []
    for dataset in draw(st.lists(any_text, min_size=1, max_size=2, unique=True)):
        for method in methods:
            for metric, (unit, better) in columns.items():
                for seed in draw(st.sets(st.integers(0, 3), max_size=3)):
                    value = draw(st.none() | st.floats())
                    place = {"benchmark": benchmark, "dataset": dataset, "architecture": architecture}
                    found.append(row(method, seed, value, metric, **place, unit=unit, better=better, message=draw(any_text)))
    return found


@given(results())
@settings(deadline=None, max_examples=80)
def test_no_rows_break_a_board(rows):
    """Every format renders whatever the rows hold, the same twice, and is well formed."""
    both = compare(made(rows), ())
    for form in FORMATS:
        assert render(both, form) == render(compare(made(rows), ()), form)
    json.loads(render(both, "json"), parse_constant=pytest.fail)
    entries = sum(len(line) for table in both.tables for line in table.entries)
    assert len(list(csv.reader(io.StringIO(render(both, "csv"), newline=""), strict=True))) == 1 + entries
    grids = parsed(render(both, "html")).tags.count("table")
    assert MarkdownIt("commonmark").enable("table").render(render(both)).count("<table>") == grids


# The command


def run(*arguments: str | Path) -> str:
    """Return what the command prints; an error of the user's is raised as it is, for the command group to print."""
    result = CliRunner().invoke(leaderboard, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def runs(tmp_path):
    """Two folders of rows: baselines, and a method of one's own."""
    for name, rows in (("baselines", OURS), ("mine", seeds("mine", 95.0, 96.0, 97.0))):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "results.csv", rows)
    return tmp_path / "baselines", tmp_path / "mine"


def test_the_command_prints_the_board_of_several_runs(runs):
    """Markdown by default, all folders in one table."""
    assert "| mine     |          **96.00 ± 1.00** |" in run(*runs)


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_writes_every_format_to_a_file(runs, tmp_path, form):
    """`--out` holds what would have been printed; nothing is printed then."""
    assert run(*runs, "--format", form, "--out", tmp_path / "board") == ""
    assert (tmp_path / "board").read_text() == run(*runs, "--format", form)


def test_the_command_compares_with_a_reference(runs):
    """Published numbers follow the table."""
    text = run(*runs, "--reference", PAPER)
    assert "94.40 ± 0.20 (n = 3) | 94.43 ± 0.12 (n = 3) |        -0.03 |    agrees |" in text
    assert text.endswith("83 published numbers have no counterpart on this board.\n")


def test_the_command_chooses_metrics(runs):
    """An unknown one is the user's error, in one line."""
    assert run(*runs, "--metrics", "ensemble_accuracy") == run(*runs)
    with pytest.raises(UserError, match=r"^no rows of metric 'accuracy'; did you mean 'ensemble_accuracy'\? known: "):
        run(*runs, "--metrics", "accuracy")


def test_the_command_without_a_folder(tmp_path):
    """A missing argument is a usage error; a folder without rows names what is missing."""
    assert CliRunner().invoke(leaderboard, []).exit_code == 2
    with pytest.raises(UserError, match=r"no results\.csv; name a folder that `harness run FILE --out DIR` has written$"):
        run(tmp_path)
