"""Stores on network file systems: two machines share one; locks are refused, granted to everybody, or kept by each machine."""

from __future__ import annotations

import errno
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from engines.conftest import wait_for
from faults.bad_system import HELD_RUN, preloaded, start_python, two_mounts
from faults.rig import DIGITS, contents, events
from harness.execution.mailbox import Mailbox
from harness.store import Store


def write(folder: Path) -> Path:
    """Write a benchmark file into a folder, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(DIGITS))
    return folder


def start(folder: Path, out: str, store: Path, faults: dict[str, str]) -> subprocess.Popen[str]:
    """Start a run of the benchmark of a folder in one process."""
    command = ("-m", "harness", "run", "small.yaml", "--workers", "1", "--out", out, "--store", store)
    return start_python(folder, *command, faults=faults)


def start_held(folder: Path, out: str, store: Path, faults: dict[str, str]) -> subprocess.Popen[str]:
    """Start a run that waits after its first epoch for a file `go`, and wait for that epoch."""
    process = start_python(folder, "-c", HELD_RUN, out, store, faults=faults)
    wait_for(lambda: (folder / "held").exists() or process.poll() is not None)
    return process


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a run; return what it wrote to standard error."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def trained(folder: Path, *outs: str) -> list[str]:
    """Return the trainings that runs began at epoch 0."""
    return [event["task"] for out in outs for event in events(folder, "train_started", out) if event["epoch"] == 0]


def check_same(folder: Path, store: Path, *outs: str) -> None:
    """Assert that the results of runs equal those of a run alone on a local disk."""
    finish(start(folder, "alone", folder / "local", {}))
    assert list(Store(store).maintenance.find_corruption()) == []
    assert contents(Store(store)) == contents(Store(folder / "local"))
    for out in outs:
        assert (folder / out / "results.csv").read_bytes() == (folder / "alone" / "results.csv").read_bytes()
    assert list((store / "runs").iterdir()) == []


REFUSALS = {
    errno.ENOLCK: "the file system refuses locks (No locks available)",
    errno.ENOSYS: "the file system refuses locks (Function not implemented)",
    errno.EOPNOTSUPP: "the file system refuses locks (Operation not supported)",
    0: "the file system gives one lock to two holders",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        errno.ENOLCK,
        0,
        pytest.param(errno.ENOSYS, marks=pytest.mark.faults),
        pytest.param(errno.EOPNOTSUPP, marks=pytest.mark.faults),
    ],
)
def test_file_system_without_locks(tmp_path: Path, error: int) -> None:
    """One run works, with a warning; a second one is refused with one line while the first is alive, and works afterwards."""
    folder = write(tmp_path)
    faults = preloaded(tmp_path, BAD_FLOCK=error)
    store = folder / "store"
    first = start_held(folder, "first", store, faults)
    refused = finish(start(folder, "second", store, faults), code=2)
    lines = refused.strip().splitlines()
    assert f"error: store {store}: a run on " in lines[-1]
    assert f"in {folder / 'first'}) is using it, and {REFUSALS[error]}; wait until it has ended, name another" in lines[-1]
    (folder / "go").touch()
    warned = finish(first)
    assert f"warning: store {store}: {REFUSALS[error]}; until this run ends no other one may use it" in warned
    finish(start(folder, "second", store, faults))
    assert trained(folder, "second") == []
    check_same(folder, store, "first", "second")


@pytest.mark.slow
@pytest.mark.parametrize("remember", [100.0, pytest.param(0.0, marks=pytest.mark.faults)])
def test_two_machines_that_share_locks(tmp_path: Path, remember: float) -> None:
    """Both runs work at once, and nothing is trained twice, though each looks for the other's objects before they exist."""
    folder = write(tmp_path)
    with two_mounts(tmp_path, shared_locks=True, remember=remember) as (here, there):
        processes = []
        for out, place in (("first", here), ("second", there)):
            processes.append(start(folder, out, place / "store", preloaded(tmp_path, BAD_HOST=out)))
        for process in processes:
            finish(process)
        tasks = trained(folder, "first", "second")
        assert sorted(tasks) == sorted(set(tasks))
        assert len(tasks) == 2
        check_same(folder, here / "store", "first", "second")


@pytest.mark.slow
def test_two_machines_that_keep_their_locks(tmp_path: Path) -> None:
    """The second run is refused with a line that names the first one's machine; afterwards it works, and trains nothing."""
    folder = write(tmp_path)
    with two_mounts(tmp_path, shared_locks=False) as (here, there):
        first = start_held(folder, "first", here / "store", preloaded(tmp_path, BAD_HOST="node1"))
        second = preloaded(tmp_path, BAD_HOST="node2")
        refused = finish(start(folder, "second", there / "store", second), code=2)
        assert f"error: store {there / 'store'}: a run on node1 (process {first.pid}, since " in refused
        assert f"in {folder / 'first'}) is using it, and its lock is not seen on this machine; wait until" in refused
        prune = ("-m", "harness", "store", "prune", "small.yaml", "--yes", "--store", there / "store")
        pruned = start_python(folder, *prune, faults=second)
        assert "in use by 1 other process(es)" in finish(pruned, code=2)
        (folder / "go").touch()
        finish(first)
        finish(start(folder, "second", there / "store", second))
        assert trained(folder, "second") == []
        check_same(folder, here / "store", "first", "second")


@pytest.mark.slow
@pytest.mark.faults
def test_machine_that_is_lost(tmp_path: Path) -> None:
    """A run of another machine sees no sign of life of the first one, says so, and continues its training."""
    folder = write(tmp_path)
    with two_mounts(tmp_path, shared_locks=False) as (here, there):
        first = start_held(folder, "first", here / "store", preloaded(tmp_path, BAD_HOST="node1"))
        first.kill()
        first.communicate()
        begin = time.monotonic()
        said = finish(start(folder, "second", there / "store", preloaded(tmp_path, BAD_HOST="node2")))
        assert "may be using it; waiting up to 16 seconds for a sign of life" in said
        assert time.monotonic() - begin < 120
        check_same(folder, there / "store", "second")


@pytest.mark.slow
def test_mailbox_on_a_full_disk(tmp_path: Path) -> None:
    """The worker says why and where, which is the end of its log, and exits."""
    mailbox = tmp_path / "mailbox"
    Mailbox(mailbox)
    faults = preloaded(tmp_path, BAD_FULL="/mailbox/messages")
    worker = start_python(
        tmp_path, "-m", "harness", "worker", "--json", "--mailbox", mailbox, "--store", "store", faults=faults
    )
    said = finish(worker, code=143)
    assert said == f"error: {mailbox}: cannot be written: No space left on device; this worker saves and ends\n"
