"""Tasks and failures: JSON beside the objects."""

from __future__ import annotations

import json

import pytest

from harness.errors import StoreError
from harness.store import Store
from store.samples import KEY, OTHER, quarantined

TASK = {"key": KEY, "kind": "train"}


def test_task_comes_back(store: Store) -> None:
    """Writing it again changes nothing."""
    store.write_task(KEY, TASK)
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    written = path.stat().st_mtime_ns
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK
    assert path.stat().st_mtime_ns == written


def test_missing_task_is_an_error(store: Store) -> None:
    """The message says who writes tasks."""
    with pytest.raises(StoreError, match=f"no readable task {OTHER}; `harness run` writes them"):
        store.read_task(OTHER)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"task": {}, "sha256": ""}'])
def test_damaged_task_is_an_error_until_it_is_written_again(store: Store, content: str) -> None:
    """What is not as it was written is not used."""
    store.write_task(KEY, TASK)
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    path.write_text(content)
    with pytest.raises(StoreError, match="no readable task"):
        store.read_task(KEY)
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK


def test_folder_in_place_of_a_task_is_quarantined(store: Store) -> None:
    """Writing the task puts it."""
    path = store.root / "tasks" / KEY[:2] / f"{KEY}.json"
    path.mkdir(parents=True)
    store.write_task(KEY, TASK)
    assert store.read_task(KEY) == TASK
    assert len(quarantined(store)) == 1


def test_last_failure_is_kept(store: Store) -> None:
    """Where it lies is returned, when it is written and later."""
    assert store.failure(KEY) is None
    store.record_failure(KEY, {"message": "out of memory"})
    path = store.record_failure(KEY, {"message": "diverged"})
    assert json.loads(path.read_text())["message"] == "diverged"
    assert store.failure(KEY) == path
