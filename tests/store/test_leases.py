"""Leases: one holder at a time, and no file that remains."""

from __future__ import annotations

import pytest

from harness.store import Store
from store.samples import KEY


def test_lease_has_one_holder_at_a_time(store: Store) -> None:
    """A second process gets False at once, and the lease after it was released."""
    with store.lease(KEY) as first, store.lease(KEY) as second:
        assert (first, second) == (True, False)
    with store.lease(KEY) as third:
        assert third


def test_lease_leaves_no_file(store: Store) -> None:
    """The lock file is removed with the lock, also if the work fails."""
    folder = store.root / "leases"
    with store.lease(KEY):
        assert [path.name for path in folder.iterdir()] == [f"{KEY}.lock"]
    assert list(folder.iterdir()) == []
    with pytest.raises(RuntimeError), store.lease(KEY):
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_lock_files_of_dead_processes_are_removed(store: Store) -> None:
    """`prepare` removes lock files that nobody holds, and keeps the others."""
    dead = store.root / "leases" / "dead.lock"
    dead.touch()
    with store.lease(KEY):
        Store(store.root).prepare()
        assert [path.name for path in (store.root / "leases").iterdir()] == [f"{KEY}.lock"]
