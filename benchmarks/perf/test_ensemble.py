"""A deep ensemble on all cores, from the command line to the accuracy, against a script that trains its members in turn.

Both are commands, each a process that imports what it needs, with the threads that they take by themselves; what counts is the
time that passes. docs/performance.md has what was measured.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from harness.results.rows import read_rows

MEMBERS, EPOCHS = 4, 20
CONTENT = {
    "name": "small",
    "seeds": [0],
    "members": MEMBERS,
    "datasets": ["digits"],
    "architectures": [{"resnet20": {"width": 0.5}}],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
    "recipe": {"epochs": EPOCHS, "batch_size": 32, "learning_rate": 0.05, "augmentation": {"crop_padding": 1}},
}


def test_ensemble_against_a_plain_script(duel, tmp_path):
    """Four members of a small ResNet20 on digits; ensembles of about the same accuracy."""
    number, accuracies = itertools.count(), ([], [])
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONTENT))

    def ours() -> None:
        out = tmp_path / f"ours-{next(number)}"
        command(
            "-m", "harness", "run", "small.yaml", "--out", out, "--store", out / "store", "--device", "cpu", folder=tmp_path
        )
        rows = read_rows(out)
        accuracies[0].append(float(rows[rows["metric"] == "ensemble_accuracy"]["value"].iloc[0]))

    def theirs() -> None:
        folder = tmp_path / f"theirs-{next(number)}"
        folder.mkdir()
        script = Path(__file__).with_name("plain_ensemble.py")
        accuracies[1].append(float(command(script, folder, MEMBERS, EPOCHS, folder=folder)))

    duel(ours, theirs, bar=2.0, rounds=3, warmup=1, seconds=passed)
    assert min(accuracies[0]) >= min(accuracies[1]) - 5


def command(*words: object, folder: Path) -> str:
    """Run Python with some words as a user does, without this process's number of threads; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def passed(work: Callable[[], object]) -> float:
    """Return the seconds that pass."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
