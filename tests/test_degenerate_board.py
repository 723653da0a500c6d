"""How the board shows numbers of degenerate ensembles: marked in every format, explained below, never the best."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from click.testing import CliRunner

from harness.cli.leaderboard import leaderboard
from harness.leaderboard import Board, board, compare, read_reference, render
from harness.results.rows import Row, frame, read_rows, rows_of, write_rows

COPIES = "all 5 members make the same predictions: they are one network"
LEGEND = "‡ of a degenerate ensemble: the number says little and is never the best"
ELSEWHERE = f"{LEGEND}; the notes of the data set's own table say why"


def seeds(method: str, *values: float | None, **changes: Any) -> list[Row]:
    """Return a row per value, for seeds 0, 1, …; one without a value is failed."""
    plain: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "cifar10",
        "architecture": "resnet20",
        "metric": "q",
        "unit": "percent",
        "better": "higher",
        "members": 5,
        "metric_version": "q@1",
        "options": "{}",
        "cell": "ab" * 32,
        "key": "cd" * 32,
    }
    rows = []
    for seed, value in enumerate(values):
        status = "failed" if value is None else "done"
        rows.append(Row(**{**plain, **changes}, method=method, seed=seed, value=value, status=status))
    return rows


def made(rows: Sequence[Row]) -> Board:
    """Return the board of one run."""
    return board({"out": frame(rows)})


def best(board: Board) -> list[str]:
    """Return the methods that are marked best of a board's first column."""
    return [entries[0].method for entries in board.tables[0].entries if entries[0].best]


def test_one_member_in_rows_of_an_older_run() -> None:
    """They hold no warning, but the number of members says it; a failed row needs none."""
    found = made([*seeds("deep", -60.0, -61.0), *seeds("alone", 0.0, 0.0, members=1), *seeds("lost", None, members=1)])
    assert best(found) == ["deep"]
    assert "- seeds 0, 1 of alone: the ensemble has one member" in render(found)
    assert "seed 0 of lost: the ensemble" not in render(found)


def test_methods_with_one_trouble_share_a_note() -> None:
    """Each message stands once, with all methods it is true of."""
    rows = [*seeds("deep", -60.0, -61.0)]
    for method in ("copies", "twice"):
        rows += [*seeds(method, 0.0, 0.0, warning=COPIES), *seeds(method, None, metric="r", message="no luck")]
    text = render(made([*rows, *seeds("copies", 1.0, metric="s"), *seeds("twice", 1.0, metric="s")]))
    assert f"- seeds 0, 1 of copies, twice (q): {COPIES}" in text
    assert text.count("no luck") == 1
    assert "- seed 0 of copies, twice (r): failed: no luck" in text


MIXED = [*seeds("deep", -60.0, -61.0), *seeds("copies", 0.0, 0.0, warning=COPIES)]


def test_the_whole_markdown_of_a_board_with_a_degenerate_ensemble() -> None:
    """Copies of one network have q = 0, the highest there is; the deep ensemble is the best."""
    assert render(made(MIXED)) == (
        "### paper: cifar10, resnet20\n\n"
        "| method   |           q (%) ↑ |\n"
        "|:---------|------------------:|\n"
        "| deep     | **-60.50 ± 0.71** |\n"
        "| copies   |     0.00 ± 0.00 ‡ |\n\n"
        "M = 5. Mean ± standard deviation over 2 seeds (0, 1), ddof = 1. Best of a column in bold.\n\n"
        f"- {LEGEND}\n"
        f"- seeds 0, 1 of copies: {COPIES}\n"
    )


def test_html() -> None:
    """The cell has a class, and the notes are below the table."""
    text = render(made(MIXED), "html")
    assert '<td class="done degenerate">0.00 ± 0.00 ‡</td>' in text
    assert '<td class="done best"><strong>-60.50 ± 0.71</strong></td>' in text
    assert f'<ul class="notes"><li>{LEGEND}</li><li>seeds 0, 1 of copies: {COPIES}</li></ul>' in text


def test_latex() -> None:
    """The mark is a double dagger, and the notes are below the table."""
    text = render(made(MIXED), "latex")
    assert r"copies & 0.00 $\pm$ 0.00 $\ddagger$ \\" in text
    assert r"\par\footnotesize $\ddagger$ of a degenerate ensemble: the number says little and is never the best" in text
    assert rf"\par\footnotesize seeds 0, 1 of copies: {COPIES}" in text


def test_csv() -> None:
    """The last column says why."""
    lines = list(csv.DictReader(io.StringIO(render(made(MIXED), "csv"))))
    assert [(line["method"], line["best"], line["status"], line["warning"]) for line in lines] == [
        ("deep", "true", "done", ""),
        ("copies", "false", "done", COPIES),
    ]


def test_json() -> None:
    """Entries have their warnings, and the table says which seeds."""
    [table] = json.loads(render(made(MIXED), "json"))["tables"]
    [entry] = table["methods"][1]["entries"]
    assert (entry["best"], entry["warnings"], entry["text"]) == (False, [COPIES], "0.00 ± 0.00 ‡")
    assert table["warnings"] == [{"method": "copies", "seeds": [0, 1], "metrics": [], "message": COPIES}]
    assert table["methods"][0]["entries"][0]["warnings"] == []


def test_one_degenerate_seed_is_enough() -> None:
    """A mean over a sound and a degenerate ensemble is marked, and the seed is named."""
    rows = [*MIXED[:3], *seeds("copies", 0.0, -1.0)[1:]]
    rows[2] = Row(**{**vars(rows[2]), "warning": COPIES})
    found = made(rows)
    assert best(found) == ["deep"]
    assert f"- seed 0 of copies: {COPIES}\n" in render(found)


def test_no_winner_where_all_are_degenerate() -> None:
    """Nothing is bold."""
    rows = [*seeds("copies", 0.0, 0.0, warning=COPIES), *seeds("single", 1.0, 1.0, warning="the ensemble has one member")]
    found = made(rows)
    assert best(found) == []
    assert "**" not in render(found)
    assert "Best of a column" not in render(found)


def test_a_lower_metric() -> None:
    """The direction does not matter."""
    rows = [*seeds("deep", 3.0, 3.0, better="lower"), *seeds("copies", 0.0, 0.0, better="lower", warning=COPIES)]
    assert best(made(rows)) == ["deep"]


def test_sound_boards_have_no_legend() -> None:
    """The mark is explained where there is one."""
    assert "‡" not in render(made(MIXED[:2]))


def test_nan_failed_and_incomplete_entries_of_a_degenerate_ensemble() -> None:
    """Each keeps its own mark; a failed row needs no second reason."""
    rows = [*seeds("a", float("nan"), 0.0, warning=COPIES), *seeds("b", 0.0, None, warning=COPIES)]
    rows += seeds("c", None, None, warning=COPIES)
    texts = [line.split("|")[2].strip() for line in render(made(rows)).splitlines() if line.startswith(("| a", "| b", "| c"))]
    assert texts == ["nan † ‡", "0.00 (1/2) ‡", "failed"]
    assert "of c: all 5" not in render(made(rows))


def test_the_overview_of_data_sets_marks_them_too() -> None:
    """It says where the reason stands."""
    text = render(made([*MIXED, *seeds("deep", 1.0, 2.0, dataset="digits")]))
    overview = text[: text.index("### paper: cifar10, resnet20")]
    assert "0.00 ± 0.00 ‡" in overview
    assert f"- {ELSEWHERE}\n" in overview


def test_the_comparison_with_published_numbers_marks_them_too(tmp_path: Path) -> None:
    """A degenerate ensemble that agrees with a published number is still marked."""
    path = tmp_path / "reference.csv"
    head = "source,table,dataset,architecture,method,metric,value,spread,n,note\n"
    path.write_text(f"{head}paper,1,cifar10,resnet20,copies,q,0.0,0.1,5,\n")
    text = render(compare(made(MIXED), read_reference(path)))
    comparison = text[text.index("beside published numbers") :]
    assert "0.00 ± 0.00 ‡ (n = 2)" in comparison
    assert f"- {ELSEWHERE}\n" in comparison


def test_a_warning_is_taken_from_whichever_run_knows_it() -> None:
    """Rows that an older version has written know of no warnings; the same ensemble's newer rows do."""
    old = [Row(**{**vars(row), "warning": ""}) for row in MIXED]
    for frames in ({"old": frame(old), "new": frame(MIXED)}, {"new": frame(MIXED), "old": frame(old)}):
        assert best(board(frames)) == ["deep"]


def test_files_without_the_column_are_read(tmp_path: Path) -> None:
    """Nothing is known of degenerate ensembles then, and nothing is marked."""
    path = tmp_path / "results.csv"
    write_rows(path, MIXED)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert table.columns[-1] == "warning"
    table.drop(columns=["warning"]).to_csv(path, index=False)
    rows = read_rows(tmp_path)
    assert [row.warning for row in rows_of(rows)] == [""] * 4
    assert best(board({"out": rows})) == ["copies"]


def test_the_command_shows_the_notes(tmp_path: Path) -> None:
    """What `harness leaderboard` prints has them, from rows alone."""
    write_rows(tmp_path / "results.csv", MIXED)
    assert f"- seeds 0, 1 of copies: {COPIES}\n" in CliRunner().invoke(leaderboard, [str(tmp_path)]).output


def test_hostile_warnings_are_text() -> None:
    """Rows of strangers are escaped."""
    rows = [*seeds("deep", 1.0), *seeds("x", 2.0, warning="<b>|`\x1b[2J")]
    assert "&lt;b&gt;\\|\\`" in render(made(rows))
    assert "<b>" not in render(made(rows), "html")
    assert "\x1b" not in render(made(rows), "latex")
