"""The observer `trackio`: what its local database holds of a run."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import harness
from loggers.logged_runs import DISTILLED, PLAIN, expected_curves, run_apart

pytest.importorskip("trackio")


def logged(folder: Path, project: str) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return the steps of each run of a project, in the order of the steps."""
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    with sqlite3.connect(folder / f"{project}.db") as connection:
        for name, step, metrics in connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step, id"):
            found.setdefault(name, []).append((step, json.loads(metrics)))
    return found


def test_logged_run(tmp_path: Path) -> None:
    """Each training is a run with its curves, and one more run has both tables. Nothing connects to anywhere."""
    folder = tmp_path / "trackio"
    assert run_apart(tmp_path, "trackio", {"TRACKIO_DIR": str(folder)}) == []
    finished = harness.open_run(tmp_path / "run")
    found = logged(folder, "toys")
    names = set()
    for trajectory, epochs in expected_curves(finished).items():
        (name,) = [name for name in found if name.endswith(trajectory[:8])]
        names.add(name.removesuffix(f" {trajectory[:8]}"))
        for (step, values), epoch in zip(found.pop(name), epochs, strict=True):
            assert step == epoch["epoch"]
            assert values == {tag: pytest.approx(epoch[tag]) for tag in ("loss", "accuracy", "learning_rate")}
    assert names == {*PLAIN, *DISTILLED}
    [(name, [(step, tables)])] = found.items()
    assert name.startswith("board of run ")
    assert step == 0
    rows = finished.rows[finished.rows["metric"] == "ensemble_accuracy"]
    values = tables["values"]["_value"]
    assert [line["ensemble_accuracy"] for line in values] == list(rows["value"])
    assert [(line["method"], line["seed"]) for line in values] == list(zip(rows["method"], rows["seed"]))
    assert [line["method"] for line in tables["board"]["_value"]] == ["deep", "distilled_deep"]
    assert all("±" in line["ensemble_accuracy"] for line in tables["board"]["_value"])


def test_contract(tmp_path: Path) -> None:
    """It follows every kind of run; a resumed training continues its run, and logs no epoch twice. There is one board."""
    folder = tmp_path / "trackio"
    assert run_apart(tmp_path, "trackio", {"TRACKIO_DIR": str(folder)}, "contract") == []
    found = logged(folder, "contract")
    steps = sorted([step for step, _ in lines] for name, lines in found.items() if "member" in name)
    assert steps == [[1, 2, 3], [1, 2, 3]]
    boards = sorted(name.rpartition(" ")[0] for name in found if name.startswith("board"))
    assert boards == ["board of empty", "board of run"]
