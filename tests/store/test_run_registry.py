"""The registry of runs: a second run is refused where locks do not tell two runs apart."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import filelock
import pytest

from harness.errors import StoreError
from harness.store import Store
from harness.store.run_registry import WATCH_SECONDS

FACTS = {"host": "node7", "pid": 4711, "since": "2026-01-02 03:04:05", "place": "/shared/out"}
OTHER_HOST = "0123456789ab-" + 32 * "0"


def forge(store: Store, name: str = OTHER_HOST, facts: object = FACTS) -> Path:
    """Write the files of a run that no process of this test is."""
    path = store.root / "runs" / name
    path.write_text(json.dumps(facts) + "\n")
    path.with_suffix(".lock").touch()
    return path


def entries(store: Store) -> list[str]:
    """Return the names of the registered runs."""
    return sorted(path.name for path in (store.root / "runs").iterdir() if path.suffix != ".lock")


def unexpected(line: str) -> None:
    pytest.fail(f"waited: {line}")


def test_two_runs_of_one_machine(store: Store) -> None:
    """Both are registered at once, and leave nothing."""
    with store.registered("a", unexpected), Store(store.root).registered("b", unexpected):
        assert len(entries(store)) == 2
    assert list((store.root / "runs").iterdir()) == []


def test_dead_run_of_this_machine(store: Store) -> None:
    """Its lock is free, so its files are removed at once."""
    with store.registered("a", unexpected):
        [own] = entries(store)
    forge(store, own)
    with store.registered("a", unexpected):
        assert own not in entries(store)


def test_run_of_another_machine_whose_lock_is_seen(store: Store) -> None:
    """Leases work between the two: nothing is refused."""
    path = forge(store)
    with filelock.FileLock(path.with_suffix(".lock")), store.registered("a", unexpected):
        assert len(entries(store)) == 2


def test_run_of_another_machine_whose_lock_is_not_seen(store: Store) -> None:
    """It is alive, since its file grows: this run is refused with one line, and the other is left alone."""
    path = forge(store)
    said: list[str] = []
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.1):
            with path.open("ab") as file:
                file.write(b"\n")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(StoreError) as refused, store.registered("a", said.append):
            pass
        with Store(store.root).exclusive() as others:
            assert others == 2  # the store of the fixture, and the run
    finally:
        ended.set()
        thread.join()
    run = f"store {store.root}: a run on node7 (process 4711, since 2026-01-02 03:04:05, in /shared/out)"
    remedy = "wait until it has ended, name another --store, or mount the file system with locks (docs/clusters.md)"
    assert str(refused.value) == f"{run} is using it, and its lock is not seen on this machine; {remedy}"
    assert said == [f"{run} may be using it; waiting up to 16 seconds for a sign of life"]
    assert entries(store) == [OTHER_HOST]


def test_run_of_another_machine_that_died_long_ago(store: Store) -> None:
    """Its files are removed at once."""
    path = forge(store)
    os.utime(path, (1e9, 1e9))
    with store.registered("a", unexpected):
        assert OTHER_HOST not in entries(store)
    assert list((store.root / "runs").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("facts", [FACTS, ["no facts"]], ids=["whole", "damaged"])
def test_run_of_another_machine_that_has_just_died(store: Store, facts: object) -> None:
    """This run waits for a sign of life and then goes on."""
    forge(store, facts=facts)
    begin = time.monotonic()
    said: list[str] = []
    with store.registered("a", said.append):
        assert OTHER_HOST not in entries(store)
    assert time.monotonic() - begin >= WATCH_SECONDS
    assert len(said) == 1


def test_run_that_ends_while_it_is_watched(store: Store) -> None:
    """This run goes on at once."""
    path = forge(store)
    begin = time.monotonic()
    with store.registered("a", lambda line: path.unlink()):
        pass
    assert time.monotonic() - begin < WATCH_SECONDS
