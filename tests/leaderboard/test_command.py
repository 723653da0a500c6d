"""`harness leaderboard`: several runs, every format, a reference, chosen metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.leaderboard import leaderboard
from harness.errors import UserError
from harness.leaderboard import FORMATS
from harness.results.rows import write_rows
from leaderboard.rows_and_boards import MEASURED, PAPER, seed_rows


def run_leaderboard(*arguments: str | Path) -> str:
    """Return what the command prints. A `UserError` is raised, as the command group expects it."""
    result = CliRunner().invoke(leaderboard, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def runs(tmp_path):
    """Two folders of rows: baselines and another method."""
    for name, rows in (("baselines", MEASURED), ("mine", seed_rows("mine", 95.0, 96.0, 97.0))):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "results.csv", rows)
    return tmp_path / "baselines", tmp_path / "mine"


def test_two_folders(runs):
    """The command prints markdown with the rows of both folders in one table."""
    assert "| mine     |              96.00 ± 1.00 |" in run_leaderboard(*runs)


@pytest.mark.parametrize("form", FORMATS)
def test_out(runs, tmp_path, form):
    """`--out` writes what the command would print, in every format, and prints nothing."""
    assert run_leaderboard(*runs, "--format", form, "--out", tmp_path / "board") == ""
    assert (tmp_path / "board").read_text() == run_leaderboard(*runs, "--format", form)


def test_reference(runs):
    """The comparison with published numbers follows the table."""
    text = run_leaderboard(*runs, "--reference", PAPER)
    assert "94.40 ± 0.20 (n = 3) | 94.43 ± 0.12 (n = 3) |        -0.03 |    agrees |" in text
    assert text.endswith("83 published numbers have no counterpart on this board.\n")


def test_metrics(runs):
    """`--metrics` selects metrics; an unknown one is an error of one line."""
    assert run_leaderboard(*runs, "--metrics", "ensemble_accuracy") == run_leaderboard(*runs)
    with pytest.raises(UserError, match=r"^no rows of metric 'accuracy'; did you mean 'ensemble_accuracy'\? known: "):
        run_leaderboard(*runs, "--metrics", "accuracy")


def test_no_folder_and_a_folder_without_rows(tmp_path):
    """A missing argument is a usage error; for a folder without rows the error names the missing file."""
    assert CliRunner().invoke(leaderboard, []).exit_code == 2
    with pytest.raises(UserError, match=r"no results\.csv; name a folder that `harness run FILE --out DIR` has written$"):
        run_leaderboard(tmp_path)


@pytest.mark.parametrize(
    ("option", "more"), [("--no-std", ()), ("--digits", ("1",)), ("--caption", ("x",)), ("--label", ("x",)), ("--wide", ())]
)
def test_options_of_papers_beside_another_format(runs, option, more):
    """They are refused."""
    expected = rf"^{option}: for --format latex alone, not markdown; leave it out, or choose that format$"
    with pytest.raises(UserError, match=expected):
        run_leaderboard(*runs, option, *more)


def test_options_of_papers(runs):
    """Digits, caption, label and environment are those asked for, and columns are chosen by name."""
    options = ("--no-std", "--digits", "1", "--caption", r"Ours \cite{us}.", "--label", "tab:ours", "--wide")
    text = run_leaderboard(*runs, "--format", "latex", "--columns", "ensemble_accuracy", *options)
    assert "\\begin{table*}\n" in text
    assert "\\caption{Ours \\cite{us}.}\n\\label{tab:ours}\n" in text
    assert "deep & 94.4 \\\\\nmine & 96.0 \\\\\n" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label", "a b"), r"^label 'a b': a LaTeX label has letters, digits, colons, dots, hyphens and underscores$"),
        (("--digits", "7"), r"^digits: 7; from 0 to 6$"),
        (("--digits", "-1"), r"^digits: -1; from 0 to 6$"),
    ],
)
def test_wrong_options_of_papers(runs, options, message):
    """The error says what is allowed."""
    with pytest.raises(UserError, match=message):
        run_leaderboard(*runs, "--format", "latex", *options)
