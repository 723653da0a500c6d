"""Runs that meet in one folder, as a user meets them: jobs of an array, two at once, a benchmark called `store`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.execution.run_folder import open_folder
from harness.results.rows import load_rows

FILE: dict[str, Any] = {
    "name": "small",
    "seeds": [0],
    "members": 2,
    "datasets": [{"digits": {"train_size": 192, "test_size": 100}}],
    "architectures": [{"resnet20": {"width": 0.125}}],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
    "recipe": {"epochs": 1, "batch_size": 64, "augmentation": {"crop_padding": 1, "horizontal_flip": False}},
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a benchmark file."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    return tmp_path


def harness(*words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def seeds_in(folder: Path) -> set[int]:
    """Return the seeds of a folder's done rows."""
    return {row.seed for row in load_rows(folder) if row.status == "done"}


def test_an_array_of_jobs_keeps_every_seed(here: Path) -> None:
    """Jobs of one seed each that run one after another in one folder; then a run of all seeds goes on in place."""
    out = here / "runs" / "small"
    for seed in (0, 1):
        done = harness("run", "small.yaml", "--workers", 1, "--set", f"seeds=[{seed}]", cwd=here)
    assert [line for line in done.stderr.splitlines() if "held results" in line] == [
        "runs/small: held results that this run does not have (seed 0); they are now in runs/small/earlier-1, and `harness "
        "leaderboard runs/small runs/small/earlier-*` shows them; --out chooses another folder for a run"
    ]
    assert (seeds_in(out), seeds_in(out / "earlier-1")) == ({1}, {0})
    assert {path.name for path in (out / "earlier-1").iterdir()} == {
        "results.csv",
        "leaderboard.md",
        "run.json",
        "events.jsonl",
    }
    shown = harness("leaderboard", "runs/small", "runs/small/earlier-1", cwd=here)
    assert "over 2 seeds (0, 1)" in shown.stdout
    assert "seed 1" not in harness("members", "runs/small/earlier-1", cwd=here).stdout
    both = harness("run", "small.yaml", "--workers", 1, "--set", "seeds=[0, 1]", cwd=here)
    assert "held results" not in both.stderr
    assert "nothing to train: all" in both.stdout
    assert seeds_in(out) == {0, 1}
    assert [path.name for path in out.glob("earlier-*")] == ["earlier-1"]


def test_a_folder_in_which_another_run_writes(here: Path) -> None:
    """The second one ends at once with a line, and writes nothing."""
    with open_folder(here / "runs" / "small"):
        before = {path.name for path in (here / "runs").rglob("*")}
        done = harness("run", "small.yaml", cwd=here, code=2)
        assert {path.name for path in (here / "runs").rglob("*")} == before
    assert done.stderr.startswith(f"error: runs/small: another run (process {os.getpid()} on ")
    assert done.stderr.count("\n") == 1
    assert "--out 'runs/small-'$SLURM_ARRAY_TASK_ID" in done.stderr


def test_a_benchmark_called_store(here: Path) -> None:
    """It is refused before anything is written; elsewhere it may have its name."""
    done = harness("run", "small.yaml", "--set", "name=store", cwd=here, code=2)
    assert done.stderr == (
        "error: name 'store': its folder runs/store is the store's folder runs/store; choose another folder with --out, or "
        "another name\n"
    )
    assert not (here / "runs").exists()
    done = harness("run", "small.yaml", "--store", "runs/small/results.csv", cwd=here, code=2)
    taken = "'results.csv' in runs/small is the name of a run's own file or folder"
    assert done.stderr == f"error: --store runs/small/results.csv: {taken}; choose another folder with --store\n"
    assert not (here / "runs").exists()


def test_notes_on_a_degenerate_ensemble_are_printed(here: Path) -> None:
    """One member is no ensemble; the board on the screen says so."""
    done = harness("run", "small.yaml", "--workers", 1, "--set", "members=1", cwd=here)
    assert "- ‡ of a degenerate ensemble: the number says little and is never the best\n" in done.stdout
    assert "- seed 0 of deep: the ensemble has one member" in done.stdout
    assert {row.warning.partition(";")[0] for row in load_rows(here / "runs" / "small")} == {"the ensemble has one member"}
