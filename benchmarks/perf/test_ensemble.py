"""Compare `harness run` of a deep ensemble on all cores with a script that trains the members one after another.

Both sides are commands in processes of their own, with their default numbers of threads. Wall time is measured, from the start
of the command to its end. docs/performance.md has the results.
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

MEMBERS = 4
EPOCHS = 20
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


def test_ensemble_against_a_plain_script(compare, tmp_path):
    """The ensemble's accuracy is at most 5 points below the script's; the command is at least twice as fast."""
    number = itertools.count()
    our_accuracies: list[float] = []
    their_accuracies: list[float] = []
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONTENT))

    def ours() -> None:
        out = tmp_path / f"ours-{next(number)}"
        options = ["--out", out, "--store", out / "store", "--device", "cpu"]
        run_python("-m", "harness", "run", "small.yaml", *options, folder=tmp_path)
        rows = read_rows(out)
        our_accuracies.append(float(rows[rows["metric"] == "ensemble_accuracy"]["value"].iloc[0]))

    def theirs() -> None:
        folder = tmp_path / f"theirs-{next(number)}"
        folder.mkdir()
        script = Path(__file__).with_name("plain_ensemble.py")
        their_accuracies.append(float(run_python(script, folder, MEMBERS, EPOCHS, folder=folder)))

    compare(ours, theirs, bar=2.0, rounds=3, warmup=1, seconds=wall_seconds)
    assert min(our_accuracies) >= min(their_accuracies) - 5


def run_python(*arguments: object, folder: Path) -> str:
    """Run Python in a folder with the default number of threads; return its standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def wall_seconds(work: Callable[[], object]) -> float:
    """Run the work; return its wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
