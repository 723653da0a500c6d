"""Names in a store: what the store placed, what it did not, and keys by their first digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import Store
from harness.store.layout import Folder, Layout
from store.samples import KEY, OTHER

MISPLACED = [
    "notes.txt",
    "objects/notes.txt",
    "objects/ab",
    f"objects/{KEY[:2]}/notes.txt",
    f"objects/zz/{KEY}",
    f"tasks/{KEY[:2]}/{KEY}",
    f"trajectories/{KEY[:2]}/{KEY}.json",
]


def test_nothing_in_a_store_is_a_stranger(store: Store) -> None:
    """What the store writes it recognizes."""
    store.write_task(KEY, {"key": KEY})
    store.note_epoch(KEY, 1, KEY)
    store.record_failure(KEY, {})
    store.save_training_state(OTHER, 3, {}, {})
    store.quarantine(KEY)
    layout = Layout(store.root)
    assert layout.strangers() == []
    for folder in (Folder.TASKS, Folder.TRAJECTORY_INDEX, Folder.FAILURES, Folder.TRAINING_STATES):
        assert len(layout.entries(folder)) == 1


@pytest.mark.parametrize("name", MISPLACED)
def test_what_the_store_did_not_place_is_a_stranger(store: Store, name: str) -> None:
    """It is named, and is no entry."""
    path = store.base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    layout = Layout(store.root)
    assert layout.strangers() == [path]
    assert all(path not in layout.entries(folder) for folder in Folder)


def test_paths_are_shown_as_the_user_named_the_store() -> None:
    """Inside, they are absolute."""
    layout = Layout(Path("store"))
    path = layout.task_file(KEY)
    assert path.is_absolute()
    assert layout.as_given(path) == Path("store") / "tasks" / KEY[:2] / f"{KEY}.json"
    assert layout.relative(path) == f"tasks/{KEY[:2]}/{KEY}.json"


def test_keys_resolve_from_their_first_digits(store: Store) -> None:
    """A unique beginning of an object's or a task's key is enough."""
    store.write_task(OTHER, {"key": OTHER})
    assert store.resolve(KEY[:8]) == KEY
    assert store.resolve(OTHER[:8]) == OTHER
    assert store.resolve(KEY) == KEY


def test_digits_that_no_key_starts_with(store: Store) -> None:
    """The message says what to do."""
    with pytest.raises(StoreError, match="nothing under 'ffffffff'; give more or other digits"):
        store.resolve("ffffffff")


def test_digits_that_two_keys_start_with(store: Store) -> None:
    """The message says how many."""
    sibling = KEY[:60] + ("0000" if KEY[60:] != "0000" else "1111")
    store.put(sibling, {}, {})
    with pytest.raises(StoreError, match=f"2 things under '{KEY[:8]}'; give more or other digits"):
        store.resolve(KEY[:8])


@pytest.mark.parametrize("prefix", ["../x", "abc", "ABCD", "g" * 8, ""])
def test_what_cannot_start_a_key(store: Store, prefix: str) -> None:
    """The message says what a key looks like."""
    with pytest.raises(StoreError, match="is not a key; 4 to 64 hexadecimal digits"):
        store.resolve(prefix)
