"""Entries of degenerate ensembles: marked in every format, explained in a note, never the best."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from click.testing import CliRunner

from harness.cli.leaderboard import leaderboard
from harness.leaderboard import Board, board, compare, read_reference, render
from harness.results.rows import Row, frame, read_rows, rows_of, write_rows
from leaderboard.rows_and_boards import board_of, seed_rows

COPIES = "all 5 members make the same predictions: they are one network"
LEGEND = "‡ of a degenerate ensemble: the number says little and is never the best"
ELSEWHERE = f"{LEGEND}; the notes of the data set's own table say why"


def q_rows(method: str, *values: float | None, **changes: Any) -> list[Row]:
    """Return one row of the metric q per value, for seeds 0, 1, …; a row without a value is failed."""
    return seed_rows(method, *values, **{"metric": "q", **changes})


def best(board: Board) -> list[str]:
    """Return the methods that are the best of a board's first column."""
    return [entries[0].method for entries in board.tables[0].entries if entries[0].best]


SOUND = [
    *q_rows("deep", -60.0, -61.0, -60.0, -61.0, -60.0, -61.0),
    *q_rows("swe", -80.0, -82.0, -79.0, -81.0, -80.5, -79.5),
]
ZEROS = (0.0,) * 6
SEEDS = "0, 1, 2, 3, 4, 5"


def test_one_member_in_rows_without_a_warning() -> None:
    """A done row of one member gets the warning from its number of members; a failed row gets none."""
    found = board_of([*SOUND, *q_rows("alone", *ZEROS, members=1), *q_rows("lost", None, members=1)])
    assert best(found) == ["deep"]
    assert f"- seeds {SEEDS} of alone: the ensemble has one member" in render(found)
    assert "seed 0 of lost: the ensemble" not in render(found)


def test_methods_with_the_same_message() -> None:
    """They share one note, which names them all."""
    rows = [*q_rows("deep", -60.0, -61.0)]
    for method in ("copies", "twice"):
        rows += [*q_rows(method, 0.0, 0.0, warning=COPIES), *q_rows(method, None, metric="r", message="no luck")]
    text = render(board_of([*rows, *q_rows("copies", 1.0, metric="s"), *q_rows("twice", 1.0, metric="s")]))
    assert f"- seeds 0, 1 of copies, twice (q): {COPIES}" in text
    assert text.count("no luck") == 1
    assert "- seed 0 of copies, twice (r): failed: no luck" in text


MIXED = [*SOUND, *q_rows("copies", *ZEROS, warning=COPIES)]


def test_the_whole_markdown_of_a_board_with_a_degenerate_ensemble() -> None:
    """Copies of one network have q = 0, the highest value; the deep ensemble is the best."""
    assert render(board_of(MIXED)) == (
        "### paper: cifar10, resnet20\n\n"
        "| method   |           q (%) ↑ |\n"
        "|:---------|------------------:|\n"
        "| deep     | **-60.50 ± 0.55** |\n"
        "| swe      |     -80.33 ± 1.08 |\n"
        "| copies   |     0.00 ± 0.00 ‡ |\n\n"
        f"M = 5. Mean ± standard deviation (ddof = 1) over 6 seeds ({SEEDS}). "
        "Bold: not told apart from the best of its column; "
        "paired t-tests over seeds on these test images, Holm over all pairs of a column, 5 %.\n\n"
        f"- {LEGEND}\n"
        f"- seeds {SEEDS} of copies: {COPIES}\n"
    )


def test_html() -> None:
    """The cell has the class `degenerate`, and the notes are below the table."""
    text = render(board_of(MIXED), "html")
    assert '<td class="done degenerate">0.00 ± 0.00 ‡</td>' in text
    assert '<td class="done best"><strong>-60.50 ± 0.55</strong></td>' in text
    assert f'<ul class="notes"><li>{LEGEND}</li><li>seeds {SEEDS} of copies: {COPIES}</li></ul>' in text


def test_latex() -> None:
    """The mark is a double dagger, and the notes are below the table."""
    text = render(board_of(MIXED), "latex")
    assert r"copies & 0.00 $\pm$ 0.00 $\ddagger$ \\" in text
    assert r"{\footnotesize\raggedright $\ddagger$ of a degenerate ensemble: the number says little and is never the" in text
    assert rf"{{\footnotesize\raggedright seeds {SEEDS} of copies: {COPIES}\par}}" in text


def test_csv() -> None:
    """The last column holds the warning."""
    lines = list(csv.DictReader(io.StringIO(render(board_of(MIXED), "csv"))))
    assert [(line["method"], line["best"], line["status"], line["warning"]) for line in lines] == [
        ("deep", "true", "done", ""),
        ("swe", "false", "done", ""),
        ("copies", "false", "done", COPIES),
    ]


def test_json() -> None:
    """Entries hold their warnings, and the table's warnings name the seeds."""
    [table] = json.loads(render(board_of(MIXED), "json"))["tables"]
    [entry] = table["methods"][2]["entries"]
    assert (entry["best"], entry["warnings"], entry["text"]) == (False, [COPIES], "0.00 ± 0.00 ‡")
    assert table["warnings"] == [{"method": "copies", "seeds": [0, 1, 2, 3, 4, 5], "metrics": [], "message": COPIES}]
    assert table["methods"][0]["entries"][0]["warnings"] == []


def test_one_degenerate_seed() -> None:
    """A mean over a sound and a degenerate ensemble is marked, and the note names the seed."""
    first, *others = q_rows("copies", 0.0, -1.0, -1.0, -1.0, -1.0, -1.0)
    found = board_of([*SOUND, Row(**{**vars(first), "warning": COPIES}), *others])
    assert best(found) == ["deep"]
    assert f"- seed 0 of copies: {COPIES}\n" in render(found)


def test_only_degenerate_ensembles() -> None:
    """No entry is the best."""
    rows = [*q_rows("copies", 0.0, 0.0, warning=COPIES), *q_rows("single", 1.0, 1.0, warning="the ensemble has one member")]
    found = board_of(rows)
    assert best(found) == []
    assert "**" not in render(found)
    assert "Bold" not in render(found)


def test_metric_to_be_minimized() -> None:
    """A degenerate ensemble with the lowest mean is not the best."""
    rows = [
        *q_rows("deep", 3.0, 3.1, 3.0, 3.1, 3.0, 3.1, better="lower"),
        *q_rows("swe", 9.0, 8.9, 9.0, 8.9, 9.1, 8.8, better="lower"),
        *q_rows("copies", *ZEROS, better="lower", warning=COPIES),
    ]
    assert best(board_of(rows)) == ["deep"]


def test_no_degenerate_ensemble() -> None:
    """The board has no legend of the mark."""
    assert "‡" not in render(board_of(SOUND))


def test_nan_failed_and_incomplete_entries_of_a_degenerate_ensemble() -> None:
    """Each keeps its own mark; a failed entry has no warning."""
    rows = [*q_rows("a", float("nan"), 0.0, warning=COPIES), *q_rows("b", 0.0, None, warning=COPIES)]
    rows += q_rows("c", None, None, warning=COPIES)
    texts = [
        line.split("|")[2].strip() for line in render(board_of(rows)).splitlines() if line.startswith(("| a", "| b", "| c"))
    ]
    assert texts == ["nan † ‡", "0.00 (1/2) ‡", "failed"]
    assert "of c: all 5" not in render(board_of(rows))


def test_overview_of_data_sets() -> None:
    """It marks the entry and says where the reason stands."""
    text = render(board_of([*MIXED, *q_rows("deep", 1.0, 2.0, dataset="digits")]))
    overview = text[: text.index("### paper: cifar10, resnet20")]
    assert "0.00 ± 0.00 ‡" in overview
    assert f"- {ELSEWHERE}\n" in overview


def test_comparison_with_published_numbers(tmp_path: Path) -> None:
    """It marks a degenerate ensemble, also one that agrees with the published number."""
    path = tmp_path / "reference.csv"
    head = "source,table,dataset,architecture,method,metric,value,spread,n,note\n"
    path.write_text(f"{head}paper,1,cifar10,resnet20,copies,q,0.0,0.1,5,\n")
    text = render(compare(board_of(MIXED), read_reference(path)))
    comparison = text[text.index("beside published numbers") :]
    assert "0.00 ± 0.00 ‡ (n = 6)" in comparison
    assert f"- {ELSEWHERE}\n" in comparison


def test_same_ensemble_with_and_without_a_warning() -> None:
    """The warning counts, whichever run has it."""
    old = [Row(**{**vars(row), "warning": ""}) for row in MIXED]
    for frames in ({"old": frame(old), "new": frame(MIXED)}, {"new": frame(MIXED), "old": frame(old)}):
        assert best(board(frames)) == ["deep"]


def test_file_without_the_column(tmp_path: Path) -> None:
    """The file is read, and no entry is marked."""
    path = tmp_path / "results.csv"
    write_rows(path, MIXED)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.drop(columns=["warning"]).to_csv(path, index=False)
    rows = read_rows(tmp_path)
    assert [row.warning for row in rows_of(rows)] == [""] * len(MIXED)
    assert best(board({"out": rows})) == ["copies"]


def test_command(tmp_path: Path) -> None:
    """`harness leaderboard` prints the notes."""
    write_rows(tmp_path / "results.csv", MIXED)
    assert f"- seeds {SEEDS} of copies: {COPIES}\n" in CliRunner().invoke(leaderboard, [str(tmp_path)]).output


def test_hostile_warnings() -> None:
    """Every format escapes them."""
    rows = [*q_rows("deep", 1.0), *q_rows("x", 2.0, warning="<b>|`\x1b[2J")]
    assert "&lt;b&gt;\\|\\`" in render(board_of(rows))
    assert "<b>" not in render(board_of(rows), "html")
    assert "\x1b" not in render(board_of(rows), "latex")
