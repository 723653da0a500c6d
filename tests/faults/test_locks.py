"""Concurrent runs on one store: no task is done twice, no run waits for ever, and a run takes over a dead run's tasks."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPE
from faults.processes import pid_of
from faults.rig import contents, events, graph_in, in_process, run_here, temporary_files
from harness.store import Store

OVERLAPPING: dict[str, dict[str, Any]] = {
    "a": {"methods": ["deep", {"constrained": {"fork_epoch": 1}}]},
    "b": {"methods": [{"distilled": {"fork_epoch": 1}}, "deep"]},
    "c": {"methods": ["permuted"], "seeds": [0, 1]},
    "d": {"methods": ["deep", {"constrained": {"fork_epoch": 2}}], "metrics": ["ensemble_accuracy", "brier_score"]},
}


def folders(tmp_path: Path) -> dict[str, Path]:
    """Create a folder for each run."""
    created = {name: tmp_path / name for name in OVERLAPPING}
    for folder in created.values():
        folder.mkdir()
    return created


def started(folders: dict[str, Path]) -> Counter[str]:
    """Return how often each task was started by all runs together, without the checks, which each run makes."""
    found: Counter[str] = Counter()
    for folder in folders.values():
        found.update(event["task"] for event in events(folder, "task_started") if event["kind"] != "check")
    return found


def test_four_overlapping_runs(tmp_path: Path) -> None:
    """Each task is started once, all runs succeed, and each writes the rows that it writes alone."""
    places = folders(tmp_path)
    store = tmp_path / "store"
    runs = {}
    tasks: set[str] = set()
    for name, place in places.items():
        runs[name] = in_process(run_here, place, store, "out", 60.0, **OVERLAPPING[name])
    for name, run in runs.items():
        run.join(120)
        assert run.exitcode == 0, name
        tasks |= graph_in(places[name], **OVERLAPPING[name]).tasks.keys()
    assert started(places) == dict.fromkeys(tasks, 1)
    assert set(Store(store).keys()) == tasks
    assert list(Store(store).maintenance.find_corruption()) == []
    assert temporary_files(Store(store)) == []
    for name, place in places.items():
        assert run_here(place, place / "alone", "alone", **OVERLAPPING[name]) == 0
        assert (place / "out" / "results.csv").read_bytes() == (place / "alone" / "results.csv").read_bytes()
        alone = contents(Store(place / "alone"))
        together = contents(Store(store))
        assert {key: together[key] for key in alone} == alone


def test_run_that_waits_for_a_killed_run(tmp_path: Path) -> None:
    """It continues the killed run's training from the last saved epoch."""
    places = folders(tmp_path)
    store = tmp_path / "store"
    long: dict[str, Any] = {"methods": ["deep"], "members": 1, "recipe": {**RECIPE, "epochs": 150}}
    first = in_process(run_here, places["a"], store, **long)
    wait_for(lambda: len(events(places["a"], "epoch")) > 5)
    second = in_process(run_here, places["b"], store, **long)
    wait_for(lambda: bool(events(places["b"], "waiting")))
    os.kill(pid_of(first), signal.SIGKILL)
    second.join(120)
    assert second.exitcode == 0
    last_of_first = max(event["epoch"] for event in events(places["a"], "epoch"))
    first_of_second = min(event["epoch"] for event in events(places["b"], "epoch"))
    assert first_of_second >= last_of_first - 1
    assert temporary_files(Store(store)) != []  # the killed run's staging area, until the next run starts
    assert run_here(places["b"], store, **long) == 0
    assert temporary_files(Store(store)) == []


def test_lease_of_a_killed_process(tmp_path: Path) -> None:
    """Another process acquires it at once."""
    holder = in_process(hold, tmp_path)
    store = Store(tmp_path / "store")
    key = "a" * 64
    wait_for((tmp_path / "held").exists)
    with store.lease(key) as acquired:
        assert not acquired
    os.kill(pid_of(holder), signal.SIGKILL)
    holder.join(10)
    with store.lease(key) as acquired:
        assert acquired
    assert temporary_files(store) != []  # the staging areas of the killed process and of this one
    store.prepare()
    del store
    assert temporary_files(Store(tmp_path / "store")) == []


def test_exclusive_access_to_a_store_in_use(tmp_path: Path) -> None:
    """It yields the number of other processes that write to the store, without killed ones."""
    holder = in_process(hold, tmp_path)
    wait_for((tmp_path / "held").exists)
    store = Store(tmp_path / "store")
    store.prepare()
    with store.exclusive() as others:
        assert others == 1
    os.kill(pid_of(holder), signal.SIGKILL)
    holder.join(10)
    with store.exclusive() as others:
        assert others == 0


def hold(folder: Path) -> int:
    """Hold a lease until killed."""
    store = Store(folder / "store")
    store.prepare()
    with store.lease("a" * 64):
        (folder / "held").touch()
        time.sleep(120)
    return 0


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition is true; fail after a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"the condition was not true within {seconds} seconds")
        time.sleep(0.02)
