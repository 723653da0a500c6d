"""Leases: one holder at a time, and no file left behind."""

from __future__ import annotations

import pytest

from harness.store import Store
from store.samples import KEY


def test_lease_is_exclusive_and_free_again(store: Store) -> None:
    """A second holder is told at once; afterwards it gets the lease."""
    with store.lease(KEY) as first, store.lease(KEY) as second:
        assert (first, second) == (True, False)
    with store.lease(KEY) as third:
        assert third


def test_lease_leaves_no_file(store: Store) -> None:
    """The file goes with the lock, also when the work fails."""
    folder = store.root / "leases"
    with store.lease(KEY):
        assert [path.name for path in folder.iterdir()] == [f"{KEY}.lock"]
    assert list(folder.iterdir()) == []
    with pytest.raises(RuntimeError), store.lease(KEY):
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_lock_files_of_dead_holders_are_swept(store: Store) -> None:
    """A lock file that nobody holds goes; one that is held stays."""
    dead = store.root / "leases" / "dead.lock"
    dead.touch()
    with store.lease(KEY):
        Store(store.root).prepare()
        assert [path.name for path in (store.root / "leases").iterdir()] == [f"{KEY}.lock"]
