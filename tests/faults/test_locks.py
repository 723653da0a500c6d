"""Several runs at once on one store: nothing is done twice, nobody waits for ever, a dead holder's work is taken over."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import RECIPE
from faults.rig import contents, events, graph_in, in_process, leftovers, pid_of, run_here
from harness.store import Store

OVERLAPPING: dict[str, dict[str, Any]] = {
    "a": {"methods": ["deep", {"constrained": {"fork_epoch": 1}}]},
    "b": {"methods": [{"distilled": {"fork_epoch": 1}}, "deep"]},
    "c": {"methods": ["permuted"], "seeds": [0, 1]},
    "d": {"methods": ["deep", {"constrained": {"fork_epoch": 2}}], "metrics": ["ensemble_accuracy", "brier_score"]},
}


def folders(tmp_path: Path) -> dict[str, Path]:
    """Make a folder for each run."""
    made = {name: tmp_path / name for name in OVERLAPPING}
    for folder in made.values():
        folder.mkdir()
    return made


def started(folders: dict[str, Path]) -> Counter[str]:
    """Return how often each task of the graph was begun, by all runs together; every run makes checks of its own."""
    begun = [event for folder in folders.values() for event in events(folder, "task_started")]
    return Counter(event["task"] for event in begun if event["kind"] != "check")


def test_four_runs_at_once_do_no_work_twice(tmp_path: Path) -> None:
    """Four overlapping benchmarks on one store: every task is begun once, all end, and each has the rows that it has alone."""
    places = folders(tmp_path)
    store = tmp_path / "store"
    runs = {n: in_process(run_here, place, store, "out", 60.0, **OVERLAPPING[n]) for n, place in places.items()}
    for run in runs.values():
        run.join(120)
    assert {name: run.exitcode for name, run in runs.items()} == dict.fromkeys(runs, 0)
    wanted = set().union(*(graph_in(places[name], **OVERLAPPING[name]).tasks for name in places))
    assert started(places) == dict.fromkeys(wanted, 1)
    assert set(Store(store).keys()) == wanted
    assert list(Store(store).maintenance.find_corruption()) == []
    assert leftovers(Store(store)) == []
    for name, place in places.items():
        assert run_here(place, place / "alone", "alone", **OVERLAPPING[name]) == 0
        assert (place / "out" / "results.csv").read_bytes() == (place / "alone" / "results.csv").read_bytes()
        alone, together = contents(Store(place / "alone")), contents(Store(store))
        assert all(together[key] == value for key, value in alone.items())


def test_work_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    """A run that waits for another's training goes on with it, from the last saved epoch, when the other is killed."""
    places = folders(tmp_path)
    store = tmp_path / "store"
    long: dict[str, Any] = {
        "methods": ["deep"],
        "members": 1,
        "recipe": {**RECIPE, "epochs": 150},
    }
    first = in_process(run_here, places["a"], store, **long)
    wait_for(lambda: len(events(places["a"], "epoch")) > 5)
    second = in_process(run_here, places["b"], store, **long)
    wait_for(lambda: bool(events(places["b"], "waiting")))
    os.kill(pid_of(first), signal.SIGKILL)
    second.join(120)
    assert second.exitcode == 0
    done, taken = (max(e["epoch"] for e in events(places["a"], "epoch")), min(e["epoch"] for e in events(places["b"], "epoch")))
    assert taken >= done - 1
    assert leftovers(Store(store))  # the dead one's place, until the next run begins
    assert run_here(places["b"], store, **long) == 0
    assert leftovers(Store(store)) == []


def test_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    """No time-out stands between a death and the next holder."""
    holder = in_process(hold, tmp_path)
    store, key = Store(tmp_path / "store"), "a" * 64
    wait_for((tmp_path / "held").exists)
    with store.lease(key) as mine:
        assert not mine
    os.kill(pid_of(holder), signal.SIGKILL)
    holder.join(10)
    with store.lease(key) as mine:
        assert mine
    assert leftovers(store)  # the dead one's place, and this one's
    store.prepare()
    del store
    assert leftovers(Store(tmp_path / "store")) == []


def test_a_store_in_use_is_not_pruned(tmp_path: Path) -> None:
    """Whoever wants to remove things sees that another process is at work."""
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


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("nothing happened")
        time.sleep(0.02)
