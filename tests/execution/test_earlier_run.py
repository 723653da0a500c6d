"""Files of an earlier run in a run's folder: which runs continue in place, and when the files are moved."""

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

BOTH = "`harness leaderboard out out/earlier-*` shows them; --out chooses another folder for a run"
ALONE = "`harness leaderboard out/earlier-1` shows them; --out chooses another folder for a run"


def row(seed: int = 0, **changes: Any) -> Row:
    """Return a row with the status `done`; the key of its cell depends on the seed."""
    fields: dict[str, Any] = {
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
    return Row(**{**fields, **changes}, seed=seed)


def planned(*rows: Row) -> list[Row]:
    """Return rows without values, as a run has them when it starts."""
    return [replace(row, value=None, status="missing", key="", message="not computed yet") for row in rows]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `out` of a run with rows of seed 0 and all other files of a run."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    return fill(Path("out"), [row(0)])


def fill(folder: Path, rows: Sequence[Row]) -> Path:
    """Write rows, and a text into every other file of a run."""
    write_rows(folder / "results.csv", rows)
    seeds = [row.seed for row in rows]
    for name in FILES[1:]:
        (folder / name).write_text(f"{name} of seeds {seeds}")
    return folder


def names(folder: Path) -> set[str]:
    """Return the names of a folder's entries."""
    return {path.name for path in folder.iterdir()}


def test_empty_folder(tmp_path: Path) -> None:
    """There is nothing to move."""
    assert keep_earlier_run(tmp_path, planned(row(0))) == ""


@pytest.mark.parametrize(
    "rows", [[row(0)], [row(0), row(1), row(2)], [row(0), row(0, metric="brier", metric_version="brier@1")]]
)
def test_run_that_has_all_earlier_rows(out: Path, rows: list[Row]) -> None:
    """A resumed run, and one with more seeds or metrics, continue in place."""
    assert keep_earlier_run(out, planned(*rows)) == ""
    assert names(out) == set(FILES)


def test_another_seed(out: Path) -> None:
    """All files of the earlier run are moved unchanged, other files stay, and one line reports it."""
    before = {name: (out / name).read_bytes() for name in FILES}
    (out / "mine.txt").write_text("mine")
    message = keep_earlier_run(out, planned(row(1)))
    assert message == f"out: held results that this run does not have (seed 0); they are now in out/earlier-1, and {BOTH}"
    assert names(out) == {"earlier-1", "mine.txt"}
    assert {name: (out / "earlier-1" / name).read_bytes() for name in FILES} == before


def test_jobs_of_an_array_one_after_another(out: Path) -> None:
    """The rows of every job are kept, and one command shows them on one board."""
    for seed in (1, 2):
        message = keep_earlier_run(out, planned(row(seed)))
        assert f"(seed {seed - 1}); they are now in out/earlier-{seed}, and {BOTH}" in message
        fill(out, [row(seed)])
    folders = [str(path) for path in (out, *sorted(out.glob("earlier-*")))]
    assert "over 3 seeds (0, 1, 2)" in CliRunner().invoke(leaderboard, folders).output
    assert "One seed (2)" in CliRunner().invoke(leaderboard, [str(out)]).output


def test_other_settings_between_jobs_of_an_array(out: Path) -> None:
    """The named command leaves out the earlier folder with other settings, and works."""
    other = row(0, setting="6e" * 32, cell="77" * 32)
    assert ALONE in keep_earlier_run(out, planned(other))
    fill(out, [other])
    third = row(1, setting="6e" * 32)
    message = keep_earlier_run(out, planned(third))
    assert "`harness leaderboard out out/earlier-2` shows them" in message
    fill(out, [third])
    assert "seeds (0, 1)" in CliRunner().invoke(leaderboard, ["out", "out/earlier-2"]).output


def test_same_seed_in_an_earlier_folder(out: Path) -> None:
    """The message still names all folders, since equal rows can be on one board."""
    for seed in (1, 0, 1):
        assert BOTH in keep_earlier_run(out, planned(row(seed)))
        fill(out, [row(seed)])


def test_fewer_seeds(out: Path) -> None:
    """The message names the two of three seeds that this run does not have."""
    write_rows(out / "results.csv", [row(0), row(1), row(2)])
    assert "(seeds 1, 2); " in keep_earlier_run(out, planned(row(0)))


@pytest.mark.parametrize(
    ("earlier", "lost"),
    [
        (row(benchmark="other"), "benchmark other"),
        (row(dataset="cifar10"), "dataset cifar10"),
        (row(architecture="vit"), "architecture vit"),
        (row(method="swe"), "method swe"),
        (row(metric="brier", metric_version="brier@1"), "metric brier"),
        (row(4, method="swe"), "method swe; seed 4"),
    ],
)
def test_other_names(out: Path, earlier: Row, lost: str) -> None:
    """The message lists by kind the names that this run does not have."""
    write_rows(out / "results.csv", [row(0), earlier])
    message = keep_earlier_run(out, planned(row(0)))
    assert message == f"out: held results that this run does not have ({lost}); they are now in out/earlier-1, and {BOTH}"


def test_many_names(out: Path) -> None:
    """The message lists five of them, and the number of the others."""
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
def test_same_names_with_other_settings(out: Path, changes: dict[str, Any]) -> None:
    """Rows of another recipe, size or version cannot be on one board, so the command shows the earlier ones alone."""
    message = keep_earlier_run(out, planned(row(0, **changes)))
    lost = "the same cells with other settings"
    assert message == f"out: held results that this run does not have ({lost}); they are now in out/earlier-1, and {ALONE}"


def test_another_seed_of_another_recipe(out: Path) -> None:
    """Rows of other settings cannot be on one board, so the command shows the earlier ones alone."""
    message = keep_earlier_run(out, planned(row(1, setting="6f" * 32)))
    assert message == f"out: held results that this run does not have (seed 0); they are now in out/earlier-1, and {ALONE}"


def test_other_combinations_of_the_same_names(out: Path) -> None:
    """A run that has all names, but not in the earlier combination, is reported as such."""
    rows = [row(0, method="swe"), row(1)]
    assert "(other combinations of the same names); " in keep_earlier_run(out, planned(*rows))


def test_details_of_a_metric(out: Path) -> None:
    """They are not planned, but belong to their metric: they are not lost if the run has it."""
    detail = row(metric="accuracy/class-1", main=False)
    write_rows(out / "results.csv", [row(), detail])
    assert keep_earlier_run(out, planned(row(0))) == ""
    assert "(seed 0); " in keep_earlier_run(out, planned(row(1)))


def test_earlier_rows_without_a_value(out: Path) -> None:
    """Failed and missing rows are not kept."""
    failed = replace(row(0), status="failed", value=None)
    missing = replace(row(0), status="missing", value=None, metric="brier")
    write_rows(out / "results.csv", [failed, missing])
    assert keep_earlier_run(out, planned(row(1))) == ""
    assert names(out) == set(FILES)


def test_cell_whose_builder_fails(out: Path) -> None:
    """It has another key, but counts as the same cell."""
    [missing] = planned(row(0))
    assert keep_earlier_run(out, [replace(missing, status="failed", cell="ee" * 32)]) == ""


def test_numbers_that_are_taken(out: Path) -> None:
    """The first free number is used; a folder, a file and a link with a number stay."""
    (out / "earlier-1").mkdir()
    (out / "earlier-2").write_text("mine")
    (out / "earlier-3").symlink_to("nowhere")
    assert "they are now in out/earlier-4, and " in keep_earlier_run(out, planned(row(1)))
    assert names(out) == {"earlier-1", "earlier-2", "earlier-3", "earlier-4"}


def test_files_that_are_links(out: Path, tmp_path: Path) -> None:
    """The file that a link points to is copied, and stays where it is."""
    (out / "run.json").rename(tmp_path / "elsewhere.json")
    (out / "run.json").symlink_to(tmp_path / "elsewhere.json")
    keep_earlier_run(out, planned(row(1)))
    assert (tmp_path / "elsewhere.json").read_text() == "run.json of seeds [0]"
    assert (out / "earlier-1" / "run.json").read_text() == "run.json of seeds [0]"
    assert not (out / "earlier-1" / "run.json").is_symlink()
    assert names(out) == {"earlier-1"}


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00\x00", "benchmark,data"])
def test_file_without_rows(out: Path, content: str) -> None:
    """The file is moved with the others, and the message says what is wrong with it."""
    (out / "results.csv").write_text(content)
    message = keep_earlier_run(out, planned(row(0)))
    assert message.startswith("out/results.csv:1: ")
    assert message.endswith("; that file and those beside it are now in out/earlier-1")
    assert (out / "earlier-1" / "results.csv").read_text() == content
    assert names(out) == {"earlier-1"}


def test_move_that_was_interrupted(out: Path) -> None:
    """The rows are moved last: after an interruption they are moved again, to the next number."""
    keep_earlier_run(out, planned(row(1)))
    (out / "results.csv").write_bytes((out / "earlier-1" / "results.csv").read_bytes())
    assert "they are now in out/earlier-2, and " in keep_earlier_run(out, planned(row(1)))
    assert load_rows(out / "earlier-1") == load_rows(out / "earlier-2") == [row(0)]
    assert names(out / "earlier-1") == set(FILES)


def test_files_that_cannot_be_moved(tmp_path: Path) -> None:
    """The run is refused and all files stay; here the paths in a folder below would be too long."""
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
