"""Errors of devices in worker processes of `harness run`: they cannot be used any more, or others use their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from faults import breaking
from faults.rig import DIGITS, events
from harness.results.rows import read_rows

ERROR = "CUDA error: an illegal memory access was encountered"


def run(folder: Path, metrics: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the small benchmark with the metrics of the plugin, and one more, in worker processes."""
    environment = {}
    if not (folder / "breaking.py").exists():
        environment = breaking.install(folder)
        (folder / "environment.json").write_text(json.dumps(environment))
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "small.yaml").write_text(yaml.safe_dump({**DIGITS, "metrics": [*metrics, "ensemble_accuracy"]}))
    command = [sys.executable, "-m", "harness", "run", "small.yaml", "--out", "out", "--store", "store", *words]
    env = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600)


def statuses(folder: Path) -> dict[str, str]:
    """Return the status of each metric of the benchmark file."""
    rows = read_rows(folder / "out")
    rows = rows[rows["main"]].set_index("metric")
    return dict(rows["status"].drop("training_epochs"))


def message_of(folder: Path, metric: str) -> str:
    """Return the message of a failed metric."""
    rows = read_rows(folder / "out").set_index("metric")
    return str(rows.loc[metric, "message"])


@pytest.mark.slow
def test_device_that_breaks_once(tmp_path: Path) -> None:
    """The worker process is replaced, the task is done in the new one, and the other tasks are not touched."""
    done = run(tmp_path, ["once"], "--engine", "pool")
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == {"once": "done", "ensemble_accuracy": "done"}
    assert f"cpu failed while it was done: {ERROR}; tried once more, in a new worker process" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(events(tmp_path, "worker_started")) == 2
    assert len(events(tmp_path, "tried_again")) == 1


@pytest.mark.slow
@pytest.mark.faults
def test_task_that_breaks_the_device_twice(tmp_path: Path) -> None:
    """Only this task fails, with the name of the device; the traceback is kept."""
    done = run(tmp_path, ["always"], "--engine", "pool")
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path) == {"always": "failed", "ensemble_accuracy": "done"}
    assert message_of(tmp_path, "always") == f"cpu failed while it was done: {ERROR}, twice"
    assert "  traceback: " in done.stderr


@pytest.mark.slow
def test_last_device_that_fails_in_two_tasks(tmp_path: Path) -> None:
    """The run ends with one clear line, and the same command continues once the device works again."""
    done = run(tmp_path, ["always", "also"], "--engine", "pool")
    assert done.returncode == 2, done.stderr
    failed = f"error: cpu failed in two different tasks ({ERROR}), and no other device is left; check it, with nvidia-smi for"
    assert failed in done.stderr
    assert "stopped; what was computed before is saved. To go on, once that is fixed:\n  harness run small.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    again = run(tmp_path, [], "--engine", "pool")
    assert again.returncode == 0, again.stderr
    assert "0 epochs of training" in again.stdout


@pytest.mark.slow
@pytest.mark.faults
def test_device_beside_another_one_that_fails_in_two_tasks(tmp_path: Path) -> None:
    """It is left out with one line, and the other device does all tasks."""
    done = run(tmp_path, ["first", "second"], "--engine", "pool", "--engine-option", "devices=cpu:0,cpu")
    assert done.returncode == 0, done.stderr
    assert set(statuses(tmp_path).values()) == {"done"}
    left_out = f"cpu:0 failed in two different tasks ({breaking.ECC}); it is left out, and its tasks go to other devices"
    assert done.stderr.count(left_out) == 1
    assert len(events(tmp_path, "tried_again")) == 2


@pytest.mark.slow
@pytest.mark.faults
def test_failed_assertions_in_two_tasks(tmp_path: Path) -> None:
    """The code is wrong, not the device: both tasks fail, and the others are done."""
    done = run(tmp_path, ["asserts", "asserts_too"], "--engine", "pool")
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path) == {"asserts": "failed", "asserts_too": "failed", "ensemble_accuracy": "done"}
    for metric in ("asserts", "asserts_too"):
        assert message_of(tmp_path, metric) == "cpu failed while it was done: CUDA error: device-side assert triggered, twice"


TWO_WORKERS = ("--engine", "pool", "--engine-option", "devices=cpu,cpu")


@pytest.mark.slow
def test_task_that_needs_a_device_for_itself(tmp_path: Path) -> None:
    """It is tried once more without other workers, which end though they are idle; the rows are those of a run alone."""
    done = run(tmp_path, ["large"], *TWO_WORKERS)
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == {"large": "done", "ensemble_accuracy": "done"}
    assert "out of memory beside other workers; tried once more, without them" in done.stderr
    assert len(events(tmp_path, "tried_again")) == 1
    rows = (tmp_path / "out" / "results.csv").read_bytes()
    alone = run(tmp_path, ["large"], "--workers", "1", "--store", "alone", "--out", "alone-out")
    assert alone.returncode == 0, alone.stderr
    assert (tmp_path / "alone-out" / "results.csv").read_bytes() == rows


@pytest.mark.slow
@pytest.mark.faults
def test_task_that_needs_more_than_a_device(tmp_path: Path) -> None:
    """It fails for good after the second try; all others are done."""
    done = run(tmp_path, ["too_large"], *TWO_WORKERS)
    assert done.returncode == 1, done.stderr
    assert statuses(tmp_path) == {"too_large": "failed", "ensemble_accuracy": "done"}
    message = message_of(tmp_path, "too_large")
    assert "out of memory" in message
    assert message.endswith("; it was tried without other workers, too")
    assert len(events(tmp_path, "tried_again")) == 1


@pytest.mark.slow
@pytest.mark.faults
def test_broken_device_without_worker_processes(tmp_path: Path) -> None:
    """An engine that runs tasks in this process cannot replace it: the run ends with one line, and continues later."""
    done = run(tmp_path, ["once"], "--workers", "1")
    assert done.returncode == 2, done.stderr
    assert f"error: {ERROR}" in done.stderr
    assert "Traceback" not in done.stderr
    again = run(tmp_path, ["once"], "--workers", "1")
    assert again.returncode == 0, again.stderr
    assert statuses(tmp_path) == {"once": "done", "ensemble_accuracy": "done"}
