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
