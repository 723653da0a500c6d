"""Tasks and failures: JSON files beside the objects."""

from __future__ import annotations

import json

import pytest

from harness.errors import StoreError
from harness.store import Store
from store.samples import KEY, OTHER, quarantined

TASK = {"key": KEY, "kind": "train"}


def test_task_is_read_as_it_was_written(store: Store) -> None:
    """Writing the same task again does not touch the file."""
    store.write_task(KEY, TASK)
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    written = path.stat().st_mtime_ns
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK
    assert path.stat().st_mtime_ns == written


def test_missing_task_is_an_error(store: Store) -> None:
    """The error says which command writes tasks."""
    with pytest.raises(StoreError, match=f"no readable task {OTHER}; `harness run` writes them"):
        store.read_task(OTHER)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"task": {}, "sha256": ""}'])
def test_damaged_task(store: Store, content: str) -> None:
    """Reading it is an error until it is written again."""
    store.write_task(KEY, TASK)
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    path.write_text(content)
    with pytest.raises(StoreError, match="no readable task"):
        store.read_task(KEY)
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK


def test_folder_in_place_of_a_task_is_quarantined(store: Store) -> None:
    """Writing the task moves the folder to the quarantine."""
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    path.mkdir(parents=True)
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK
    assert len(quarantined(store)) == 1


def test_last_failure_is_stored(store: Store) -> None:
    """A later failure replaces an earlier one; its path can be asked for."""
    assert store.failure(KEY) is None
    store.record_failure(KEY, {"message": "out of memory"})
    path = store.record_failure(KEY, {"message": "diverged"})
    assert json.loads(path.read_text())["message"] == "diverged"
    assert store.failure(KEY) == path
