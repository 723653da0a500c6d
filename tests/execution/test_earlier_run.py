"""Rows of an earlier run in a run's folder: what goes on in place, what is kept, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.leaderboard import leaderboard
from harness.errors import UserError
from harness.execution.earlier_run import keep_earlier_run
from harness.execution.run_folder import FILES
from harness.results.rows import Row, load_rows, write_rows

HINT = "`harness leaderboard out out/earlier-*` shows them; --out chooses another folder for a run"
ALONE = "`harness leaderboard out/earlier-1` shows them; --out chooses another folder for a run"


def row(seed: int = 0, **changes: Any) -> Row:
    """Return a done row; its ensemble follows from the seed."""
    plain: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "digits",
        "architecture": "net",
        "method": "deep",
        "metric": "accuracy",
        "value": 90.0 + seed,
        "members": 2,
        "metric_version": "accuracy@1",
        "options": "{}",
        "setting": "5e" * 32,
        "cell": f"{seed:02x}" * 32,
        "key": "cd" * 32,
    }
    return Row(**{**plain, **changes}, seed=seed)


def planned(*rows: Row) -> list[Row]:
    """Return rows as a run that begins has them."""
    return [replace(row, value=None, status="missing", key="", message="not computed yet") for row in rows]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `out` of a run with rows of seed 0, and everything else that we write."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    return fill(Path("out"), [row(0)])


def fill(folder: Path, rows: Sequence[Row]) -> Path:
    """Write rows, and text into every other file that is ours."""
    write_rows(folder / "results.csv", rows)
    for name in FILES[1:]:
        (folder / name).write_text(f"{name} of seeds {[row.seed for row in rows]}")
    return folder


def names(folder: Path) -> set[str]:
    """Return what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_a_fresh_folder(tmp_path: Path) -> None:
    """There is nothing to keep."""
    assert keep_earlier_run(tmp_path, planned(row(0))) == ""


@pytest.mark.parametrize(
    "now", [[row(0)], [row(0), row(1), row(2)], [row(0), row(0, metric="brier", metric_version="brier@1")]]
)
def test_the_same_run_or_a_larger_one_goes_on_in_place(out: Path, now: list[Row]) -> None:
    """A resumed run, more seeds, more metrics: nothing of the earlier one is lost."""
    assert keep_earlier_run(out, planned(*now)) == ""
    assert names(out) == set(FILES)


def test_another_seed(out: Path) -> None:
    """The earlier run's files are moved, all of them and as they were, and a line says so."""
    before = {name: (out / name).read_bytes() for name in FILES}
    (out / "mine.txt").write_text("mine")
    told = keep_earlier_run(out, planned(row(1)))
    assert told == f"out: held results that this run does not have (seed 0); they are now in out/earlier-1, and {HINT}"
    assert names(out) == {"earlier-1", "mine.txt"}
    assert {name: (out / "earlier-1" / name).read_bytes() for name in FILES} == before


def test_an_array_of_jobs_one_after_another(out: Path) -> None:
    """Every job's rows are kept, and one command shows them on one board."""
    for seed in (1, 2):
        assert f"(seed {seed - 1}); they are now in out/earlier-{seed}, and {HINT}" in keep_earlier_run(out, planned(row(seed)))
        fill(out, [row(seed)])
    folders = [str(path) for path in (out, *sorted(out.glob("earlier-*")))]
    assert "Mean ± standard deviation over 3 seeds (0, 1, 2)" in CliRunner().invoke(leaderboard, folders).output
    assert "One seed (2)" in CliRunner().invoke(leaderboard, [str(out)]).output


def test_other_settings_between_jobs_of_an_array(out: Path) -> None:
    """The command that is named works: without the earlier folder that does not fit."""
    other = row(0, setting="6e" * 32, cell="77" * 32)
    assert ALONE in keep_earlier_run(out, planned(other))
    fill(out, [other])
    third = row(1, setting="6e" * 32)
    told = keep_earlier_run(out, planned(third))
    assert "`harness leaderboard out out/earlier-2` shows them" in told
    fill(out, [third])
    assert "seeds (0, 1)" in CliRunner().invoke(leaderboard, ["out", "out/earlier-2"]).output


def test_an_earlier_folder_holds_the_same_seed(out: Path) -> None:
    """One ensemble in two folders is no contradiction."""
    for seed in (1, 0, 1):
        assert HINT in keep_earlier_run(out, planned(row(seed)))
        fill(out, [row(seed)])


def test_fewer_seeds(out: Path) -> None:
    """Of three, the two that would be lost are named."""
    write_rows(out / "results.csv", [row(0), row(1), row(2)])
    assert "(seeds 1, 2); " in keep_earlier_run(out, planned(row(0)))


@pytest.mark.parametrize(
    ("earlier", "told"),
    [
        (row(benchmark="other"), "benchmark other"),
        (row(dataset="cifar10"), "dataset cifar10"),
        (row(architecture="vit"), "architecture vit"),
        (row(method="swe"), "method swe"),
        (row(metric="brier", metric_version="brier@1"), "metric brier"),
        (row(4, method="swe"), "method swe; seed 4"),
    ],
)
def test_other_names(out: Path, earlier: Row, told: str) -> None:
    """What this run does not have is named by its kind; the two can stand on one board."""
    write_rows(out / "results.csv", [row(0), earlier])
    said = keep_earlier_run(out, planned(row(0)))
    assert said == f"out: held results that this run does not have ({told}); they are now in out/earlier-1, and {HINT}"


def test_many_names(out: Path) -> None:
    """Five are listed."""
    write_rows(out / "results.csv", [row(seed) for seed in range(1, 9)])
    assert "(seeds 1, 2, 3, 4, 5 and 3 more); " in keep_earlier_run(out, planned(row(0)))


@pytest.mark.parametrize(
    "changes",
    [
        {"setting": "6f" * 32, "cell": "ee" * 32},
        {"cell": "ee" * 32, "members": 3},
        {"metric_version": 'accuracy@1{"top":5}'},
        {"metric_version": "accuracy@2"},
    ],
)
def test_the_same_names_with_other_settings(out: Path, changes: dict[str, Any]) -> None:
    """Another recipe, size, or version: they cannot stand on one board, so each is shown alone."""
    said = keep_earlier_run(out, planned(row(0, **changes)))
    told = "the same cells with other settings"
    assert said == f"out: held results that this run does not have ({told}); they are now in out/earlier-1, and {ALONE}"


def test_another_seed_of_another_recipe(out: Path) -> None:
    """The names would fit on one board; the settings do not."""
    said = keep_earlier_run(out, planned(row(1, setting="6f" * 32)))
    assert said == f"out: held results that this run does not have (seed 0); they are now in out/earlier-1, and {ALONE}"


def test_other_combinations_of_the_same_names(out: Path) -> None:
    """Methods may differ between data sets."""
    now = [row(0, method="swe"), row(1)]
    assert "(other combinations of the same names); " in keep_earlier_run(out, planned(*now))


def test_details_are_their_metrics(out: Path) -> None:
    """A metric's details have names that nobody plans; they are written anew with it."""
    detail = row(metric="accuracy/class-1", main=False)
    write_rows(out / "results.csv", [row(), detail])
    assert keep_earlier_run(out, planned(row(0))) == ""
    assert "(seed 0); " in keep_earlier_run(out, planned(row(1)))


def test_rows_without_a_value_are_nothing_to_keep(out: Path) -> None:
    """A run that failed or was stopped at once loses nothing."""
    lost = [replace(row(0), status=status, value=None) for status in ("failed", "missing")]
    write_rows(out / "results.csv", [lost[0], replace(lost[1], metric="brier")])
    assert keep_earlier_run(out, planned(row(1))) == ""
    assert names(out) == set(FILES)


def test_a_cell_that_cannot_be_planned_at_the_moment(out: Path) -> None:
    """A builder that fails has another key for the cell; it is the same cell all the same."""
    broken = [replace(now, status="failed", cell="ee" * 32) for now in planned(row(0))]
    assert keep_earlier_run(out, broken) == ""


def test_free_numbers(out: Path) -> None:
    """Whatever lies under a number stays."""
    (out / "earlier-1").mkdir()
    (out / "earlier-2").write_text("mine")
    (out / "earlier-3").symlink_to("nowhere")
    assert "they are now in out/earlier-4, and " in keep_earlier_run(out, planned(row(1)))
    assert names(out) == {"earlier-1", "earlier-2", "earlier-3", "earlier-4"}


def test_files_that_are_links(out: Path, tmp_path: Path) -> None:
    """A link's file is copied, and stays where it lies."""
    (out / "run.json").rename(tmp_path / "elsewhere.json")
    (out / "run.json").symlink_to(tmp_path / "elsewhere.json")
    keep_earlier_run(out, planned(row(1)))
    assert (tmp_path / "elsewhere.json").read_text() == "run.json of seeds [0]"
    assert (out / "earlier-1" / "run.json").read_text() == "run.json of seeds [0]"
    assert not (out / "earlier-1" / "run.json").is_symlink()
    assert names(out) == {"earlier-1"}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00\x00", "benchmark,data"])
def test_a_file_that_holds_no_rows(out: Path, content: str) -> None:
    """Somebody's own table, or one of a later version, is kept, and what is wrong with it is said."""
    (out / "results.csv").write_text(content)
    told = keep_earlier_run(out, planned(row(0)))
    assert told.startswith("out/results.csv:1: ")
    assert told.endswith("; that file and those beside it are now in out/earlier-1")
    assert (out / "earlier-1" / "results.csv").read_text() == content
    assert names(out) == {"earlier-1"}


def test_a_move_that_was_cut_short_is_done_again(out: Path) -> None:
    """Files go one by one, the rows last: what was moved is there whole, and what is left goes next time."""
    keep_earlier_run(out, planned(row(1)))
    (out / "results.csv").write_bytes((out / "earlier-1" / "results.csv").read_bytes())
    assert "they are now in out/earlier-2, and " in keep_earlier_run(out, planned(row(1)))
    assert load_rows(out / "earlier-1") == load_rows(out / "earlier-2") == [row(0)]
    assert names(out / "earlier-1") == set(FILES)


def test_files_that_cannot_be_moved(tmp_path: Path) -> None:
    """The run stops before it writes anything, and all is where it was: here paths in a folder below would be too long."""
    folder = tmp_path
    while len(str(folder)) < 4060:
        folder /= "x" * min(200, 4060 - len(str(folder)))
    folder.mkdir(parents=True)
    fill(folder, [row(0)])
    with pytest.raises(UserError) as error:
        keep_earlier_run(folder, planned(row(1)))
    reason = "the files of an earlier run cannot be moved to a folder in it: File name too long"
    assert str(error.value) == f"{folder}: {reason}; choose another folder with --out"
    assert names(folder) == set(FILES)
