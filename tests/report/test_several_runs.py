"""One page of several runs: a merged board, the figures of all rows, and the provenance of each run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import Figure, FigureData
from harness.cli.report import report
from harness.errors import UserError
from harness.leaderboard import board
from harness.report import make_figures, make_page, read_runs
from run_folder import EVENTS, FACTS, Page, epochs, made, row, rows_of_method


def page_of_runs(*folders: Path) -> Page:
    """Return the page that the command writes."""
    out = folders[0].parent / "page.html"
    result = CliRunner().invoke(report, [*map(str, folders), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Page(out.read_text(encoding="utf-8"))


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """A run of one method, `deep`."""
    return made(tmp_path / "baseline", rows_of_method("deep"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A run of another method, `mine`, on another machine."""
    facts = {**FACTS, "provenance": {"processor": "Otherium", "machine": "arm64"}}
    events = [EVENTS[0], *epochs("t3"), EVENTS[-1]]
    return made(tmp_path / "mine", rows_of_method("mine", 1.0), facts, events)


def test_board_of_two_runs(baseline: Path, mine: Path) -> None:
    """The methods of both are lines of one table, and the differences between them are there."""
    page = page_of_runs(baseline, mine)
    assert [line[0] for line in page.tables[0]] == ["method", "deep", "mine"]
    assert page.tables[1][1][:3] == ["joint_connectivity (%) ↑", "mine", "+1.00"]


def test_provenance_of_two_runs(baseline: Path, mine: Path) -> None:
    """Each run has a heading, the name of its folder, and facts of its own."""
    text = page_of_runs(baseline, mine).text.partition("Provenance\n")[2]
    first, second = text.partition("baseline\n")[2].split("mine\n", 1)
    assert "Testium (x86_64)" in first
    assert "Otherium (arm64)" in second


def test_trainings_of_two_runs(baseline: Path, mine: Path) -> None:
    """The training curves are those of both runs; a training that both have counts once."""
    assert "3 trainings" in page_of_runs(baseline, mine).pictures()
    assert "2 trainings" in page_of_runs(baseline, made(mine, rows_of_method("mine", 1.0))).pictures()


def test_page_of_several_runs_without_out(baseline: Path, mine: Path) -> None:
    """It is written to the first folder."""
    result = CliRunner().invoke(report, [str(baseline), str(mine)], catch_exceptions=False)
    assert result.output == f"page: {baseline / 'report.html'}\n"
    assert not (mine / "report.html").exists()


def test_one_run_twice(baseline: Path) -> None:
    """It counts once."""
    page = page_of_runs(baseline, baseline)
    assert page.text.count("Testium") == 1


def test_folders_of_one_name(tmp_path: Path) -> None:
    """A number tells them apart."""
    folders = []
    for parent in ("a", "b"):
        (tmp_path / parent).mkdir()
        folders.append(made(tmp_path / parent / "run", rows_of_method(parent)))
    text = page_of_runs(*folders).text
    assert "run\n" in text
    assert "run (2)\n" in text


def test_incomplete_run_among_several(baseline: Path, mine: Path) -> None:
    """The top of the page names it; a number that another run has is not missing."""
    missing = replace(row("deep", 0), value=None, status="missing")
    made(mine, [*rows_of_method("mine", 1.0), missing])
    (mine / "run.json").unlink()
    banner = page_of_runs(baseline, mine).banner()
    assert "These runs are incomplete." in banner
    assert "mine: There is no run.json" in banner
    assert "have not been computed yet" not in banner


def test_run_without_events_among_several(baseline: Path, mine: Path) -> None:
    """The page names the run that lacks them."""
    (mine / "events.jsonl").unlink()
    assert "mine: There is no events.jsonl in the folder" in page_of_runs(baseline, mine).text


def test_runs_that_contradict_each_other(baseline: Path, tmp_path: Path) -> None:
    """The error names both folders and the number."""
    other = made(tmp_path / "other", rows_of_method("deep", 1.0))
    with pytest.raises(UserError, match=r"baseline and .*other: joint_connectivity of deep, seed 0 .* is both 0\.0 and 1\.0; "):
        page_of_runs(baseline, other)


def test_damaged_contributions_of_images(baseline: Path, mine: Path) -> None:
    """The page is made without differences, and it and standard error say why."""
    (mine / "examples.npz").write_bytes(b"no archive")
    result = CliRunner().invoke(report, [str(baseline), str(mine)], catch_exceptions=False)
    reason = "the differences between methods are left out: "
    assert result.exit_code == 0
    assert f"warning: {reason}" in result.output
    page = Page((baseline / "report.html").read_text(encoding="utf-8"))
    assert reason in page.text
    assert "differences from" not in page.text


def test_data_of_a_figure_of_several_runs(baseline: Path, tmp_path: Path) -> None:
    """A figure gets the rows of all runs, and facts and folder of the first run that has rows of its table."""
    seen: list[FigureData] = []
    facts = {**FACTS, "device": "cuda"}
    other = made(tmp_path / "other", rows_of_method("mine", dataset="digits"), facts)

    class Watching(Figure):
        name = "watching"

        def draw(self, data: FigureData) -> list:
            seen.append(data)
            return []

    run = read_runs([baseline, other])
    made_board = board(run.frames)
    make_page(run, made_board, make_figures(run, made_board, {"watching": Watching}))
    assert [(data.table.dataset, data.facts["device"], data.folder) for data in seen] == [
        ("cifar10", "cpu", baseline),
        ("digits", "cuda", other),
    ]
