"""Signals to `harness run` with worker processes, and to its workers: what is left, and how the next run continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults.processes import end_within, workers_of
from faults.rig import DIGITS, contents, epochs_repeated, events, temporary_files
from harness.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.faults]
LONG: dict[str, Any] = {
    **DIGITS,
    "methods": ["deep", {"constrained": {"fork_epoch": 2}}],
    "recipe": {**DIGITS["recipe"], "epochs": 12, "learning_rate": 0.02},
}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run of the long benchmark with two workers."""
    (folder / "long.yaml").write_text(yaml.safe_dump(LONG))
    options = ["--out", "out", "--store", "store", "--workers", "2", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "long.yaml", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=_restore_sighup,
    )


def _restore_sighup() -> None:
    """Let SIGHUP end a process even if the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a run; return its exit code and what it wrote to standard error."""
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    return process.returncode, errors


def wait_for_epochs(folder: Path, count: int) -> None:
    """Wait until a run has logged a number of epochs."""
    deadline = time.monotonic() + 120
    while len(events(folder, "epoch")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def unfinished_trainings(folder: Path) -> set[str]:
    """Return the keys of the trainings that have logged an epoch and are not done."""
    done = {event["task"] for event in events(folder, "task_ended") if event["status"] == "done"}
    return {event["task"] for event in events(folder, "epoch")} - done


def saved_states(folder: Path) -> list[Path]:
    """Return the folders of the saved training states."""
    return [path.parent for path in (folder / "store" / "progress").rglob("weights.safetensors")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(start(folder))[0] == 0
    return folder


@pytest.fixture
def checked(tmp_path: Path, whole: Path) -> Iterator[Path]:
    """An empty folder. After the test the run is started again in it, and must end as an uninterrupted one."""
    yield tmp_path
    code, errors = finish(start(tmp_path))
    assert code == 0, errors
    store = Store(tmp_path / "store")
    assert list(store.maintenance.find_corruption()) == []
    assert temporary_files(store) == []
    assert contents(store) == contents(Store(whole / "store"))
    assert (tmp_path / "out" / "results.csv").read_bytes() == (whole / "out" / "results.csv").read_bytes()


@pytest.mark.parametrize("epochs", [1, 9, 20])
def test_run_that_is_killed_while_its_workers_train(checked: Path, epochs: int) -> None:
    """The workers notice it, save their states and end."""
    process = start(checked)
    wait_for_epochs(checked, epochs)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    assert end_within(30, workers)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_worker_that_is_killed(checked: Path, number: int) -> None:
    """Its training is tried once more from the saved state, which is reported, and the run succeeds."""
    process = start(checked)
    wait_for_epochs(checked, 5)
    os.kill(workers_of(process.pid)[0], number)
    code, errors = finish(process)
    assert code == 0, errors
    assert f"its worker process ended with signal {int(number)} before it was done; tried once more, alone" in errors


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGINT, 130),
        (signal.SIGHUP, 129),
        (signal.SIGUSR1, 138),
        (signal.SIGUSR2, 140),
        (signal.SIGXCPU, 152),
    ],
)
def test_run_that_is_asked_to_stop(checked: Path, number: int, code: int) -> None:
    """It saves its states and exits within five seconds, prints the command to continue, and no epoch is trained twice."""
    process = start(checked)
    wait_for_epochs(checked, 7)
    start_of_stop = time.monotonic()
    process.send_signal(number)
    exit_code, errors = finish(process)
    assert time.monotonic() - start_of_stop < 5
    assert exit_code == code, errors
    assert "To go on:\n  harness run long.yaml --out out --store store --workers 2" in errors
    assert json.loads((checked / "out" / "run.json").read_text())["status"] == "interrupted"
    assert len(saved_states(checked)) >= len(unfinished_trainings(checked))
    assert finish(start(checked))[0] == 0
    assert epochs_repeated(checked) == 0


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signal_to_run_and_workers(checked: Path, number: int, exit_code: int) -> None:
    """As batch systems send it: the states are saved though the workers get a second signal from the run."""
    process = start(checked)
    wait_for_epochs(checked, 7)
    for pid in [process.pid, *workers_of(process.pid)]:
        os.kill(pid, number)
    code, errors = finish(process)
    assert code == exit_code, errors
    assert len(saved_states(checked)) >= len(unfinished_trainings(checked))


def test_second_signal(checked: Path) -> None:
    """The run ends at once, and its workers follow."""
    process = start(checked)
    wait_for_epochs(checked, 3)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, errors = finish(process)
    assert code == 130, errors
    assert end_within(30, workers)
