"""A model of every module of timm is trained, stored, loaded and interpolated; the table of what works is the sweep's."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import timm

SWEEP = Path(__file__).with_name("timm_sweep.py")
MODELS = SWEEP.with_name("timm_models.csv")
TABLE = Path(__file__).parents[2] / "benchmarks" / "results" / "timm.csv"
NETWORKS = ("build", "train", "reload", "interpolate")
COLUMNS = ["module", "model", "parameters", "image_size", *NETWORKS, "symmetry", "seconds"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def sweep(*models: str, table: Path) -> dict[str, dict[str, str]]:
    command = [sys.executable, str(SWEEP), "run", *models, "--table", str(table)]
    subprocess.run(command, check=True, capture_output=True)
    return {row["model"]: row for row in rows_of(table)}


def test_models_are_timm_s() -> None:
    """One for each module; all are still registered."""
    rows = rows_of(MODELS)
    assert len(rows) > 90
    assert len({row["module"] for row in rows}) == len(rows)
    assert {row["model"] for row in rows} <= set(timm.list_models())


def test_committed_table() -> None:
    """Lines of the sweep, a model once, with a reason where something does not work."""
    rows = rows_of(TABLE)
    assert list(rows[0]) == COLUMNS
    assert len({row["model"] for row in rows}) == len(rows)
    assert {row["model"] for row in rows} <= {row["model"] for row in rows_of(MODELS)}
    assert all(row["build"] for row in rows)


@pytest.mark.slow
def test_two_small_models(tmp_path: Path) -> None:
    """All that is tried works; a second run goes on with what is missing."""
    table = tmp_path / "timm.csv"
    first = sweep("test_resnet", table=table)
    both = sweep("test_resnet", "test_vit", table=table)
    assert list(both) == ["test_resnet", "test_vit"]
    assert both["test_resnet"] == first["test_resnet"]
    for row in both.values():
        assert {row[stage] for stage in (*NETWORKS, "symmetry")} == {"yes"}, row


@pytest.mark.slow
def test_model_that_takes_too_long(tmp_path: Path) -> None:
    """Its line says so, and the next one is tried."""
    command = [sys.executable, str(SWEEP), "run", "test_resnet", "test_vit", "--table", str(tmp_path / "t.csv")]
    subprocess.run([*command, "--timeout", "0.1"], check=True, capture_output=True)
    assert [row["build"] for row in rows_of(tmp_path / "t.csv")] == ["not done after 0.1 s"] * 2


@pytest.mark.timm_sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", [row["model"] for row in rows_of(MODELS)])
def test_every_module(model: str, tmp_path: Path) -> None:
    """Trained, stored, loaded and interpolated, whatever its tensors are; symmetry as the committed table says."""
    row = sweep(model, table=tmp_path / "timm.csv")[model]
    assert {stage: row[stage] for stage in NETWORKS} == dict.fromkeys(NETWORKS, "yes")
    known = {committed["model"]: committed["symmetry"] for committed in rows_of(TABLE)}
    if known.get(model) == "yes":
        assert row["symmetry"] == "yes"
