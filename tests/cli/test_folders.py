"""Several runs in one folder: jobs of an array, two runs at once, a benchmark named `store`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cli.command_line import FILE, run_harness
from harness.execution.run_folder import open_folder
from harness.results.rows import load_rows

ONE_METHOD = {**FILE, "methods": ["deep"], "metrics": ["ensemble_accuracy"], "recipe": {**FILE["recipe"], "epochs": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a benchmark file."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(ONE_METHOD))
    return tmp_path


def seeds_in(folder: Path) -> set[int]:
    """Return the seeds of the done rows in a folder."""
    return {row.seed for row in load_rows(folder) if row.status == "done"}


def test_jobs_of_one_seed_each_in_one_folder(folder: Path) -> None:
    """A later job moves the rows of an earlier one to `earlier-1`; a run of all seeds then needs no move."""
    out = folder / "runs" / "small"
    for seed in (0, 1):
        done = run_harness("run", "small.yaml", "--workers", 1, "--set", f"seeds=[{seed}]", cwd=folder)
    assert [line for line in done.stderr.splitlines() if "held results" in line] == [
        "runs/small: held results that this run does not have (seed 0); they are now in runs/small/earlier-1, and `harness "
        "leaderboard runs/small runs/small/earlier-*` shows them; --out chooses another folder for a run"
    ]
    assert (seeds_in(out), seeds_in(out / "earlier-1")) == ({1}, {0})
    assert {path.name for path in (out / "earlier-1").iterdir()} == {
        "results.csv",
        "examples.npz",
        "leaderboard.md",
        "run.json",
        "events.jsonl",
    }
    shown = run_harness("leaderboard", "runs/small", "runs/small/earlier-1", cwd=folder)
    assert "over 2 seeds (0, 1)" in shown.stdout
    assert "seed 1" not in run_harness("members", "runs/small/earlier-1", cwd=folder).stdout
    both = run_harness("run", "small.yaml", "--workers", 1, "--set", "seeds=[0, 1]", cwd=folder)
    assert "held results" not in both.stderr
    assert "nothing to train: all" in both.stdout
    assert seeds_in(out) == {0, 1}
    assert [path.name for path in out.glob("earlier-*")] == ["earlier-1"]


def test_two_runs_in_one_folder_at_once(folder: Path) -> None:
    """The second run ends immediately with one line and writes nothing."""
    with open_folder(folder / "runs" / "small"):
        before = {path.name for path in (folder / "runs").rglob("*")}
        done = run_harness("run", "small.yaml", cwd=folder, code=2)
        assert {path.name for path in (folder / "runs").rglob("*")} == before
    assert done.stderr.startswith(f"error: runs/small: another run (process {os.getpid()} on ")
    assert done.stderr.count("\n") == 1
    assert "--out 'runs/small-'$SLURM_ARRAY_TASK_ID" in done.stderr


def test_benchmark_named_store(folder: Path) -> None:
    """The run is refused before it writes anything, and so is a store under the name of a run's file."""
    done = run_harness("run", "small.yaml", "--set", "name=store", cwd=folder, code=2)
    assert done.stderr == (
        "error: name 'store': its folder runs/store is the store's folder runs/store; choose another folder with --out, or "
        "another name\n"
    )
    assert not (folder / "runs").exists()
    done = run_harness("run", "small.yaml", "--store", "runs/small/results.csv", cwd=folder, code=2)
    taken = "'results.csv' in runs/small is the name of a run's own file or folder"
    assert done.stderr == f"error: --store runs/small/results.csv: {taken}; choose another folder with --store\n"
    assert not (folder / "runs").exists()


def test_degenerate_ensemble(folder: Path) -> None:
    """The printed board has the notes on it."""
    done = run_harness("run", "small.yaml", "--workers", 1, "--set", "members=1", cwd=folder)
    assert "- ‡ of a degenerate ensemble: the number says little and is never the best\n" in done.stdout
    assert "- seed 0 of deep: the ensemble has one member" in done.stdout
    assert {row.warning.partition(";")[0] for row in load_rows(folder / "runs" / "small")} == {"the ensemble has one member"}
