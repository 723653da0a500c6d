"""Maintenance: usage, damaged entries, unreferenced entries."""

from __future__ import annotations

import os

import pytest

from harness.store import Corruption, Store, Unreferenced, Usage
from store.samples import KEY, OTHER, WEIGHTS


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with an entry in each folder, whose task and trajectory is `KEY`."""
    store.write_task(KEY, {"key": KEY})
    store.note_epoch(KEY, 1, KEY)
    store.record_failure(KEY, {})
    store.training_states.save(KEY, 3, {}, {"weights": WEIGHTS})
    return store


def test_usage_by_kind_of_task_and_by_folder(filled: Store) -> None:
    """Every entry is counted once, and the bytes add up to those of all files."""
    usage = filled.maintenance.usage()
    counts = {of_kind.kind: of_kind.count for of_kind in usage}
    folders = ("progress", "trajectories", "tasks", "failures")
    assert counts == {"train": 1, **dict.fromkeys(folders, 1), "set_aside": 0, "leases": 0, "runs": 0, "aside": 3}
    files = [path for path in filled.root.rglob("*") if path.is_file()]
    assert sum(of_kind.bytes for of_kind in usage) == sum(path.stat().st_size for path in files)
    assert Usage("set_aside", 0, 0) in usage


@pytest.mark.parametrize("kind", [None, 3, "\x1b[31m", "two words"])
def test_object_without_a_printable_kind(filled: Store, kind: object) -> None:
    """It counts as unreadable, as a damaged object does; its kind is never printed."""
    filled.put(OTHER, {"kind": kind}, {})
    os.truncate(filled.path(KEY).parent / "meta.json", 3)
    counts = {of_kind.kind: of_kind.count for of_kind in filled.maintenance.usage()}
    assert counts["unreadable"] == 2
    assert "train" not in counts


def test_intact_store_has_no_corruption(filled: Store) -> None:
    """Everything that the store writes passes its own check."""
    assert list(filled.maintenance.find_corruption()) == []


def test_corruption_is_quarantined_under_its_name(filled: Store) -> None:
    """Names in quarantine have the key, and the step of a state; afterwards nothing is damaged."""
    os.truncate(filled.path(KEY), 3)
    os.truncate(filled.base / "progress" / KEY[:2] / KEY / "3" / "meta.json", 3)
    of_object, of_state = filled.maintenance.find_corruption()
    assert of_object == Corruption(f"objects/{KEY[:2]}/{KEY}", "weights.safetensors does not match its digest")
    assert of_state.path == f"progress/{KEY[:2]}/{KEY}/3"
    assert filled.maintenance.quarantine(of_object).name.startswith(f"{KEY}-")
    assert filled.maintenance.quarantine(of_state).name.startswith(f"{KEY}-step-3-")
    assert list(filled.maintenance.find_corruption()) == []


def test_foreign_file_is_reported(filled: Store) -> None:
    """It is marked as not the store's own."""
    (filled.root / "notes.txt").write_text("mine")
    expected = Corruption("notes.txt", "it is not the store's", ours=False)
    assert list(filled.maintenance.find_corruption()) == [expected]


def test_unreferenced_entries(filled: Store) -> None:
    """Objects, tasks and failures are referenced by tasks, indexes by trajectories, and states by either."""
    assert list(filled.maintenance.find_unreferenced({KEY}, {KEY})) == []
    by_task = {entry.kind for entry in filled.maintenance.find_unreferenced(set(), {KEY})}
    assert by_task == {"train", "tasks", "failures"}
    by_trajectory = {entry.kind for entry in filled.maintenance.find_unreferenced({KEY}, set())}
    assert by_trajectory == {"trajectories"}
    neither = {entry.kind for entry in filled.maintenance.find_unreferenced(set(), set())}
    assert neither == {"train", "tasks", "failures", "progress", "trajectories"}


def test_quarantine_is_unreferenced(filled: Store) -> None:
    """Its entries are unreferenced for all tasks; removing one twice is no error."""
    moved_to = filled.quarantine(KEY)
    [entry] = filled.maintenance.find_unreferenced({KEY}, {KEY})
    assert entry == Unreferenced("set_aside", moved_to.absolute(), entry.bytes)
    filled.maintenance.remove(entry)
    filled.maintenance.remove(entry)
    assert not moved_to.exists()
