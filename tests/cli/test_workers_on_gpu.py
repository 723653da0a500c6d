"""Two workers on one device against one worker, as commands; on a CUDA device and on the CPU."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml

from cli.command_line import FILE, run_harness

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
METRICS = ["ensemble_accuracy", "mean_member_accuracy", {"joint_connectivity": {"draws": 3}}]
HANDFUL = 5.0
"""Five of a hundred test images, in percent."""


def rows_of(folder: Path, name: str, *words: str) -> dict[tuple[str, str], float]:
    """Run the benchmark in the folder into a store of its own; return its values by method and metric."""
    run_harness("run", "small.yaml", "--out", name, "--store", f"store-{name}", *words, cwd=folder)
    with (folder / name / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return {(row["method"], row["metric"]): float(row["value"]) for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["--device", "cpu", "--workers", "1"], ["--device", "cpu", "--workers", "2"]),
        pytest.param(["--device", "cuda"], ["--device", "cuda:0", "--workers", "2"], marks=GPU),
    ],
    ids=["cpu", "cuda"],
)
def test_two_workers(one: list[str], two: list[str], tmp_path: Path) -> None:
    """They give the rows of one: equal on the CPU, and on a GPU but for a handful of images."""
    recipe = {**FILE["recipe"], "precision": "fp32"}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**FILE, "metrics": METRICS, "recipe": recipe}))
    expected = rows_of(tmp_path, "one", *one)
    found = rows_of(tmp_path, "two", *two)
    if "cpu" in one:
        assert found == expected
    assert found == pytest.approx(expected, abs=HANDFUL)
