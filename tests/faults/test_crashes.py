"""A crash before, within and after every operation of the store: stored objects stay, no object is incomplete, and the same
operations succeed afterwards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from faults.bad_disk import BadDisk, Crashed
from faults.rig import contents, temporary_files
from harness import files
from harness.api.task import key_of
from harness.store import Store

KEY = key_of("one")
OTHER = key_of("other")
THIRD = key_of("third")
TRAJECTORY = key_of("way")
WEIGHTS = {"a": torch.arange(6.0).view(2, 3)}


def prepared(root: Path) -> None:
    """Create a store with a valid object, a damaged one, and the saved state of a training."""
    store = Store(root)
    for key in (KEY, OTHER):
        store.put(key, {"kind": "train"}, {"weights": WEIGHTS})
    os.truncate(store.path(OTHER), 9)
    store.training_states.save(TRAJECTORY, 2, {"task": THIRD}, {"weights": WEIGHTS})


def work(store: Store) -> None:
    """Do all operations on a store that a run does. They can be repeated, with the same result."""
    store.prepare()
    if store.damage_reason(OTHER):
        store.quarantine(OTHER)
    store.write_task(THIRD, {"key": THIRD, "kind": "train"})
    with store.lease(TRAJECTORY):
        for step in (3, 7):
            store.training_states.save(TRAJECTORY, step, {"task": THIRD}, {"weights": WEIGHTS})
        store.note_epoch(TRAJECTORY, 4, THIRD)
        for key in (OTHER, THIRD):
            store.put(key, {"kind": "train"}, {"weights": WEIGHTS, "optimizer-m": WEIGHTS})
        store.training_states.drop(TRAJECTORY, 8)
    store.record_failure(KEY, {"message": "diverged"})


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that replaces the disk of all stores by a bad one."""

    def replace_disk(**trouble: Any) -> BadDisk:
        disk = BadDisk(**trouble)
        monkeypatch.setattr(files, "os", disk)
        return disk

    return replace_disk


def release(store: Store) -> None:
    """Release the locks of a store as the end of its process does; nothing is removed from the crashed disk."""
    with contextlib.suppress(Crashed):
        store.close()


@pytest.mark.parametrize("power_cut", [False, True], ids=["killed", "power-cut"])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_crash_at_some_operations(tmp_path: Path, bad: Any, how: str, power_cut: bool) -> None:
    """Afterwards the store has no further damage, and the same operations end as in a store without a crash."""
    check_crashes(tmp_path, bad, how, power_cut, every=9 if how == "half" else 27)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("power_cut", [False, True], ids=["killed", "power-cut"])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_crash_at_every_operation(tmp_path: Path, bad: Any, how: str, power_cut: bool) -> None:
    """The same is true after a crash at any operation."""
    check_crashes(tmp_path, bad, how, power_cut, every=1)


def check_crashes(tmp_path: Path, bad: Any, how: str, power_cut: bool, every: int) -> None:
    """Crash at each `every`-th operation, or write if `how` is "half", each time in a new store."""
    prepared(tmp_path / "whole")
    disk = bad(syncs=False)
    expected = Store(tmp_path / "whole")
    work(expected)
    operations = list(disk.seen)
    numbers = [number for number, name in enumerate(operations, 1) if name == "write" or how != "half"]
    for at in numbers[::every]:
        root = tmp_path / str(at)
        bad(syncs=False)
        prepared(root)
        crashing = bad(at=at, crash=how, stay=True, power_cut=power_cut, syncs=False)
        store = Store(root)
        with pytest.raises(Crashed):
            work(store)
        release(store)
        assert crashing.dead
        bad(syncs=False)
        again = Store(root)
        damaged = [damage.path for damage in again.maintenance.find_corruption()]
        assert [path for path in damaged if OTHER not in path] == [], (at, operations[at - 1])
        assert again.has(KEY)
        work(again)
        assert list(again.maintenance.find_corruption()) == []
        assert contents(again) == contents(expected)
        assert again.epochs(TRAJECTORY) == {4: THIRD}
        quarantined = [path.name for path in (root / "set_aside").iterdir()]
        assert any(name.startswith(OTHER) for name in quarantined), at
        del store, again
        assert temporary_files(Store(root)) == []
    assert operations.count("write") > 10
