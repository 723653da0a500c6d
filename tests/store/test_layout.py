"""Names in a store: its own entries, foreign entries, and abbreviated keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import Store
from harness.store.layout import Folder, Layout
from store.samples import KEY, OTHER

FOREIGN = [
    "notes.txt",
    "objects/notes.txt",
    "objects/ab",
    f"objects/{KEY[:2]}/notes.txt",
    f"objects/zz/{KEY}",
    f"tasks/{KEY[:2]}/{KEY}",
    f"trajectories/{KEY[:2]}/{KEY}.json",
]


def test_entries_of_the_store(store: Store) -> None:
    """Everything that the store writes is an entry, and nothing is foreign."""
    store.write_task(KEY, {"key": KEY})
    store.note_epoch(KEY, 1, KEY)
    store.record_failure(KEY, {})
    store.training_states.save(OTHER, 3, {}, {})
    store.quarantine(KEY)
    layout = Layout(store.root)
    assert layout.foreign_entries() == []
    for folder in (Folder.TASKS, Folder.TRAJECTORY_INDEX, Folder.FAILURES, Folder.TRAINING_STATES):
        assert len(layout.entries(folder)) == 1


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_entry(store: Store, name: str) -> None:
    """A file or folder with another name is listed as foreign, and is no entry."""
    path = store.base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    layout = Layout(store.root)
    assert layout.foreign_entries() == [path]
    assert all(path not in layout.entries(folder) for folder in Folder)


def test_paths_are_shown_as_the_user_named_the_store() -> None:
    """Paths are absolute inside the program, and below the given folder in messages."""
    layout = Layout(Path("store"))
    path = layout.task_file(KEY)
    assert path.is_absolute()
    assert layout.as_given(path) == Path("store") / "tasks" / KEY[:2] / f"{KEY}.json"
    assert layout.relative(path) == f"tasks/{KEY[:2]}/{KEY}.json"


def test_abbreviated_key(store: Store) -> None:
    """A unique prefix of an object's or a task's key is resolved to the key."""
    store.write_task(OTHER, {"key": OTHER})
    assert store.resolve(KEY[:8]) == KEY
    assert store.resolve(OTHER[:8]) == OTHER
    assert store.resolve(KEY) == KEY


def test_prefix_of_no_key(store: Store) -> None:
    """The error says what to do."""
    with pytest.raises(StoreError, match="nothing under 'ffffffff'; give more or other digits"):
        store.resolve("ffffffff")


def test_prefix_of_two_keys(store: Store) -> None:
    """The error gives the number of keys."""
    sibling = KEY[:60] + ("0000" if KEY[60:] != "0000" else "1111")
    store.put(sibling, {}, {})
    with pytest.raises(StoreError, match=f"2 things under '{KEY[:8]}'; give more or other digits"):
        store.resolve(KEY[:8])


@pytest.mark.parametrize("prefix", ["../x", "abc", "ABCD", "g" * 8, ""])
def test_malformed_prefix(store: Store, prefix: str) -> None:
    """The error says what a key is."""
    with pytest.raises(StoreError, match="is not a key; 4 to 64 hexadecimal digits"):
        store.resolve(prefix)
