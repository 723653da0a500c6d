"""Killed from outside, with worker processes: what `harness run` leaves when it, or one of its workers, is signalled."""

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

from faults.rig import contents, epochs_repeated, events, leftovers
from faults.test_disk import FILE
from harness.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.faults]
LONG: dict[str, Any] = {
    **FILE,
    "methods": ["deep", {"constrained": {"fork_epoch": 2}}],
    "recipe": {**FILE["recipe"], "epochs": 12, "learning_rate": 0.02},
}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Begin a run of the long benchmark, with two workers."""
    (folder / "long.yaml").write_text(yaml.safe_dump(LONG))
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "long.yaml",
        "--out",
        "out",
        "--store",
        "store",
        "--workers",
        "2",
        *words,
    ]
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=_with_a_terminal
    )


def _with_a_terminal() -> None:
    """Let SIGHUP end a process even where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors
    return process.returncode, errors


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a run."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(worker) for worker in found]


def wait_for_epochs(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(events(folder, "epoch")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pids: list[int], seconds: float) -> bool:
    """Say whether processes end within a time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [
            pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text()
        ]
        if not alive:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(start(folder))[0] == 0
    return folder


@pytest.fixture
def checked(tmp_path: Path, whole: Path) -> Iterator[Path]:
    """A folder in which, after the test, the run is issued again and must end as an undisturbed one."""
    yield tmp_path
    code, errors = finish(start(tmp_path))
    assert code == 0, errors
    store = Store(tmp_path / "store")
    assert not (found := list(store.maintenance.find_corruption())), found
    assert not (rest := leftovers(store)), rest
    assert contents(store) == contents(Store(whole / "store"))
    assert (tmp_path / "out" / "results.csv").read_bytes() == (whole / "out" / "results.csv").read_bytes()


@pytest.mark.parametrize("epochs", [1, 9, 20])
def test_run_killed_with_its_workers_at_work(checked: Path, epochs: int) -> None:
    """The workers notice that nobody listens, save and end by themselves."""
    process = start(checked)
    wait_for_epochs(checked, epochs)
    workers = workers_of(process.pid)
    assert workers
    process.kill()
    assert gone(workers, 30)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_worker_killed(checked: Path, number: int) -> None:
    """Its training is tried once more, alone, from what was saved; the run ends as if nothing had happened."""
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
    """It saves within five seconds, says how to go on, exits with the signal's code, and no epoch is trained twice."""
    process = start(checked)
    wait_for_epochs(checked, 7)
    began = time.monotonic()
    process.send_signal(number)
    left, errors = finish(process)
    assert time.monotonic() - began < 5
    assert left == code, errors
    assert "To go on:\n  harness run long.yaml --out out --store store --workers 2" in errors
    assert json.loads((checked / "out" / "run.json").read_text())["status"] == "interrupted"
    assert list((checked / "store" / "progress").rglob("weights.safetensors"))
    assert finish(start(checked))[0] == 0
    assert epochs_repeated(checked) == 0


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_everybody_is_asked_to_stop_at_once(checked: Path, number: int, exit_code: int) -> None:
    """As batch systems do it: run and workers get the signal, and the workers another one from the run."""
    process = start(checked)
    wait_for_epochs(checked, 7)
    for pid in [process.pid, *workers_of(process.pid)]:
        os.kill(pid, number)
    code, errors = finish(process)
    assert code == exit_code, errors
    assert list((checked / "store" / "progress").rglob("weights.safetensors"))


def test_second_signal_ends_at_once(checked: Path) -> None:
    """Who insists is not kept waiting; what was saved before stays."""
    process = start(checked)
    wait_for_epochs(checked, 3)
    workers = workers_of(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, errors = finish(process)
    assert code == 130, errors
    assert gone(workers, 30)
