"""A crash before, in the middle of and after every operation of the store: what was there stays, nothing is there by
half, and the same work done again succeeds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from faults.bad_disk import BadDisk, Crashed
from faults.rig import contents, leftovers
from harness import files
from harness.api.task import key_of
from harness.store import Store

KEY, OTHER, THIRD, WAY = (key_of(name) for name in ("one", "other", "third", "way"))
WEIGHTS = {"a": torch.arange(6.0).view(2, 3)}


def prepared(root: Path) -> None:
    """Make a store with a good object, a damaged one, and what a training that was killed has left."""
    store = Store(root)
    for key in (KEY, OTHER):
        store.put(key, {"kind": "train"}, {"weights": WEIGHTS})
    os.truncate(store.path(OTHER), 9)
    store.save_training_state(WAY, 2, {"task": THIRD}, {"weights": WEIGHTS})


def work(store: Store) -> None:
    """Do everything that a store is asked to do in a run; done again, it ends the same."""
    store.prepare()
    if store.damage(OTHER):
        store.quarantine(OTHER)
    store.write_task(THIRD, {"key": THIRD, "kind": "train"})
    with store.lease(WAY):
        for step in (3, 7):
            store.save_training_state(WAY, step, {"task": THIRD}, {"weights": WEIGHTS})
        store.note_epoch(WAY, 4, THIRD)
        for key in (OTHER, THIRD):
            store.put(key, {"kind": "train"}, {"weights": WEIGHTS, "optimizer-m": WEIGHTS})
        store.drop_training_states(WAY, 8)
    store.record_failure(KEY, {"message": "diverged"})


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that puts a bad disk under all stores."""

    def put(**trouble: Any) -> BadDisk:
        found = BadDisk(**trouble)
        monkeypatch.setattr(files, "os", found)
        return found

    return put


def forget(store: Store) -> None:
    """Let a store go as the death of its process does: locks are freed, nothing is removed from the dead disk."""
    with contextlib.suppress(Crashed):
        store.close()


@pytest.mark.parametrize("power_cut", [False, True], ids=["killed", "power-cut"])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_crash_at_some_operations(tmp_path: Path, bad: Any, how: str, power_cut: bool) -> None:
    """After each of them the store verifies, holds what it held, and ends as an undisturbed one."""
    check_crashes(tmp_path, bad, how, power_cut, every=9 if how == "half" else 27)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("power_cut", [False, True], ids=["killed", "power-cut"])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_crash_at_every_operation(tmp_path: Path, bad: Any, how: str, power_cut: bool) -> None:
    """The same at every one."""
    check_crashes(tmp_path, bad, how, power_cut, every=1)


def check_crashes(tmp_path: Path, bad: Any, how: str, power_cut: bool, every: int) -> None:
    prepared(tmp_path / "whole")
    counted, undisturbed = bad(syncs=False), Store(tmp_path / "whole")
    work(undisturbed)
    operations = list(counted.seen)
    points = [at for at, name in enumerate(operations, 1) if name == "write" or how != "half"]
    for at in points[::every]:
        root = tmp_path / str(at)
        bad(syncs=False)
        prepared(root)
        broken = bad(at=at, crash=how, stay=True, power_cut=power_cut, syncs=False)
        store = Store(root)
        with pytest.raises(Crashed):
            work(store)
        forget(store)
        assert broken.dead
        bad(syncs=False)
        again = Store(root)
        found = [damage.path for damage in again.maintenance.find_corruption()]
        assert [path for path in found if OTHER not in path] == [], (at, operations[at - 1])
        assert again.has(KEY)
        work(again)
        assert list(again.maintenance.find_corruption()) == []
        assert contents(again) == contents(undisturbed)
        assert again.epochs(WAY) == {4: THIRD}
        assert [path for path in (root / "set_aside").iterdir() if path.name.startswith(OTHER)], at
        del store, again
        assert leftovers(Store(root)) == []
    assert operations.count("write") > 10
