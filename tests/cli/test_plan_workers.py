"""`harness plan --workers`: how long a run will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.command_line import FILE, run_harness

CHAIN: dict[str, Any] = {**FILE, "methods": ["deep", "swe"], "metrics": ["ensemble_accuracy"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark file and the store of a run of its first method."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.yaml").write_text(yaml.safe_dump({**CHAIN, "methods": ["deep"]}))
    run_harness("run", "small.yaml", "--workers", 1, cwd=folder)
    (folder / "small.yaml").write_text(yaml.safe_dump(CHAIN))
    return folder


def estimate(*words: object, cwd: Path) -> dict[str, Any]:
    """Return the estimate in the JSON of `harness plan`."""
    found: dict[str, Any] = json.loads(run_harness("plan", "small.yaml", "--json", *words, cwd=cwd).stdout)["estimate"]
    return found


def test_estimate_from_the_store(home: Path) -> None:
    """It is in seconds; every field is there, and the critical path is SWE's."""
    found = estimate("--workers", 2, "--set", "seeds=[1]", cwd=home)
    assert found["unit"] == "seconds"
    assert found["reason"] == ""
    assert found["workers"] == 2
    assert found["device"].startswith("cpu (")
    assert 0 < found["lower_bound"] <= found["wall_time"] <= found["work"]
    path = found["critical_path"]
    assert path["epochs"] == 4
    assert path["length"] == pytest.approx(sum(task["length"] for task in path["tasks"]), abs=1e-5)
    trainings = [task for task in path["tasks"] if task["kind"] == "train"]
    assert sum(task["last_epoch"] - task["first_epoch"] for task in trainings) == 4
    assert trainings[-1]["methods"] == ["swe"]
    assert {"key", "dataset", "architecture", "seed", "member", "objective", "metric", "description", "cost"} <= set(
        trainings[0]
    )
    measured = {(one["kind"], one["plugin"]): one for one in found["measured"]}
    assert set(measured) == {("train", "cross_entropy"), ("predict", ""), ("measure", "ensemble_accuracy")}
    epoch = measured["train", "cross_entropy"]
    assert (epoch["dataset"], epoch["architecture"], epoch["precision"], epoch["batch_size"]) == (
        "digits",
        "resnet20",
        "fp32",
        64,
    )
    assert (epoch["tasks"], epoch["side_by_side"]) == (2, False)
    assert found["not_measured"] == []


def test_text_of_the_estimate(home: Path) -> None:
    """It names wall time, critical path with its method, and what was measured."""
    lines = run_harness("plan", "small.yaml", "--workers", 2, "--set", "seeds=[1]", cwd=home).stdout.splitlines()
    (wall,) = [line for line in lines if line.startswith("on 2 workers: about ")]
    assert " s; work " in wall
    assert wall.endswith(" on so many workers")
    (path,) = [line for line in lines if line.startswith("critical path, of swe: ")]
    assert path.endswith("; 2 trainings one after another, 4 epochs")
    assert "  train resnet20 on digits, seed 1 member 0, cross-entropy, epochs 0 to 2 (deep, swe)" in lines
    assert any(line.startswith("measured: resnet20 on digits (cross_entropy, fp32, batch size 64): ") for line in lines)


def test_without_a_store(home: Path, tmp_path: Path) -> None:
    """The estimate is in epochs, a line says why and names --calibrate; no store is created."""
    done = run_harness("plan", home / "small.yaml", "--workers", 2, "--store", "none", cwd=tmp_path)
    expected = "none: no such store, so no epoch was measured; `--calibrate` measures one, until then the estimate is in epochs"
    assert expected in done.stdout.splitlines()
    assert "critical path, of swe: 4 epochs; " in done.stdout
    assert not (tmp_path / "none").exists()


def test_architecture_that_was_not_measured(home: Path) -> None:
    """The line names it."""
    done = run_harness("plan", "small.yaml", "--workers", 2, "--set", "architectures.0.resnet20.width=0.25", cwd=home)
    assert (
        "runs/store: no epoch of resnet20 on digits (cross_entropy, fp32, batch size 64) was measured on cpu (" in done.stdout
    )
    assert "; `--calibrate` measures one, until then the estimate is in epochs\n" in done.stdout


def test_everything_in_the_store(home: Path) -> None:
    """There is nothing to do."""
    done = run_harness("plan", "small.yaml", "--workers", 2, "--set", "methods=[deep]", cwd=home)
    assert done.stdout.splitlines()[-1] == "nothing to do: the wall time is that of starting"
    found = estimate("--workers", 2, "--set", "methods=[deep]", cwd=home)
    assert (found["wall_time"], found["critical_path"]["tasks"]) == (0, [])


def test_calibration(home: Path, tmp_path: Path) -> None:
    """It measures an epoch on this device, writes nothing, and gives an estimate in seconds."""
    words = ("plan", home / "small.yaml", "--workers", 2, "--calibrate", "--device", "cpu", "--data", "data", "--json")
    done = run_harness(*words, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("calibrated resnet20 on digits (cross_entropy, fp32, batch size 64): ")
    assert " s per epoch, from 3 steps, on cpu (" in lines[0]
    found = json.loads(done.stdout)["estimate"]
    assert found["unit"] == "seconds"
    assert found["wall_time"] > 0
    assert [one["plugin"] for one in found["not_measured"]] == ["ensemble_accuracy"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers: 0 is not in the range 1<=x<=1000000"),
        (["--workers", "two"], "--workers: 'two' is not an integer"),
        (["--calibrate"], "error: --calibrate: measures for the estimate of --workers; add --workers N"),
        (["--workers", "2", "--device", "cpu"], "error: --device cpu: says where --calibrate measures; add --calibrate"),
        (["--workers", "2", "--calibrate", "--device", "gpu"], "error: --device gpu: unknown device; did you mean 'cuda'?"),
    ],
)
def test_mistakes(home: Path, words: list[str], message: str) -> None:
    """Each gives one clear line and exit code 2, before anything is measured."""
    done = run_harness("plan", "small.yaml", *words, cwd=home, code=2)
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""
