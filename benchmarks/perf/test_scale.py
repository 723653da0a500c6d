"""Measure commands on large benchmarks: a plan of 10,200 cells, and a board of a million rows from 200 runs.

Each command runs in a process of its own, whose processor time and peak memory are measured. docs/performance.md has the
results.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from harness.results.csv_file import csv_line
from harness.results.rows import COLUMNS

RUN = """
import re, runpy, sys
from pathlib import Path
sys.argv[0] = "harness"
try:
    runpy.run_module("harness", run_name="__main__")
finally:
    # not ru_maxrss, which starts with the peak of the process that started this one: pytest with torch
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(int(peak) / 1024, "torch" in sys.modules, file=sys.stderr)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: processor time, peak memory, and whether it imported torch."""

    seconds: float
    megabytes: float
    torch: bool


def cost_of(*words: object) -> Cost:
    """Run `harness WORDS` in a process; return what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    megabytes, torch = done.stderr.split()[-2:]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, float(megabytes), torch == "True")


def write_grids(path: Path, seeds: int) -> Path:
    """Write a benchmark of 204 cells per seed: two data sets, two networks, grids over fork epochs and β with teachers."""
    fork_epochs = [1, 5, 10, 20, 40, 60, 80]
    content = {
        "name": "grids",
        "seeds": list(range(seeds)),
        "members": 5,
        "datasets": ["cifar10", "cifar100"],
        "architectures": ["resnet20", "vit"],
        "methods": [
            "deep",
            "swe",
            {"constrained": {"grid": {"fork_epoch": fork_epochs}}},
            {"distilled": {"grid": {"fork_epoch": fork_epochs, "beta": [0.1, 0.2, 0.35, 0.5, 0.8, 0.9]}}},
        ],
        "metrics": [
            "ensemble_accuracy",
            "mean_member_accuracy",
            {"joint_connectivity": {"draws": 50}},
            {"pairwise_connectivity": {"points": 11}},
            "predictive_variance",
            "jensen_shannon_divergence",
        ],
        "recipe": {"epochs": 110, "batch_size": 128},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("form", ["text", "json"])
def test_plan_of_ten_thousand_cells(form: str, benchmark, tmp_path: Path) -> None:
    """Its memory stays below 400 MB, and its time is linear: less than eight times that of a fifth of the cells."""
    options = ["--json"] if form == "json" else []
    part = cost_of("plan", write_grids(tmp_path / "part.yaml", 10), *options)
    costs: list[Cost] = []
    file = write_grids(tmp_path / "whole.yaml", 50)
    benchmark.pedantic(lambda: costs.append(cost_of("plan", file, *options)), rounds=1)
    whole = costs[0]
    benchmark.extra_info.update(cells=10_200, seconds=whole.seconds, megabytes=whole.megabytes, seconds_of_a_fifth=part.seconds)
    assert not whole.torch
    assert whole.megabytes < 400
    assert whole.seconds < 8 * part.seconds


def write_run(folder: Path, run: int) -> Path:
    """Write 5,000 rows of one method: two data sets, two networks, 125 seeds, ten metrics."""
    draw = random.Random(run)
    lines = [csv_line(COLUMNS)]
    blank = dict.fromkeys(COLUMNS, "")
    for dataset in ("cifar10", "cifar100"):
        for architecture in ("resnet20", "vit"):
            setting = _key(dataset, architecture)
            for seed in range(125):
                cell = _key(setting, str(run), str(seed))
                for metric in range(10):
                    fields = {
                        **blank,
                        "benchmark": "scale",
                        "dataset": dataset,
                        "architecture": architecture,
                        "method": f"method_{run}",
                        "seed": str(seed),
                        "metric": f"metric_{metric}",
                        "value": repr(draw.uniform(50, 90)),
                        "standard_error": repr(draw.uniform(0, 1)),
                        "unit": "percent",
                        "better": "higher",
                        "main": "true",
                        "status": "done",
                        "members": "5",
                        "metric_version": f"metric_{metric}@1",
                        "options": "{}",
                        "setting": setting,
                        "cell": cell,
                        "key": _key(cell, str(metric)),
                        "method_version": f"method_{run}@1",
                        "objective": "cross_entropy@1",
                    }
                    lines.append(",".join(fields.values()) + "\n")
    folder.mkdir()
    (folder / "results.csv").write_text("".join(lines))
    return folder


def _key(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def test_board_of_a_million_rows(benchmark, tmp_path: Path) -> None:
    """200 runs of 5,000 rows take less than eight times as long as 40 runs, and less than 700 MB."""
    folders = [write_run(tmp_path / f"run-{run}", run) for run in range(200)]
    part = cost_of("leaderboard", *folders[:40])
    costs: list[Cost] = []
    benchmark.pedantic(lambda: costs.append(cost_of("leaderboard", *folders)), rounds=1)
    whole = costs[0]
    benchmark.extra_info.update(
        rows=1_000_000, seconds=whole.seconds, megabytes=whole.megabytes, seconds_of_a_fifth=part.seconds
    )
    assert not whole.torch
    assert whole.megabytes < 700
    assert whole.seconds < 8 * part.seconds
