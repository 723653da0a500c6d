"""The staging area: one folder per process, removed if the process is dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store import Store
from harness.store.layout import Layout
from harness.store.staging import StagingArea
from store.samples import KEY, staged


def folders(store: Store) -> list[Path]:
    """Return the folders in the staging area."""
    return [path for path in (store.root / "aside").iterdir() if path.is_dir()]


def test_writers_have_folders_of_their_own(store: Store) -> None:
    """All paths of one area are in one folder, those of two areas in two."""
    first, second = StagingArea(Layout(store.root)), StagingArea(Layout(store.root))
    assert first.new_path().parent == first.new_path().parent
    assert first.new_path() != first.new_path()
    assert first.new_path().parent != second.new_path().parent
    first.close()
    second.close()


def test_closed_area_leaves_nothing(store: Store) -> None:
    """Its folder and its lock are removed; the next write creates new ones."""
    store.close()
    assert [path.name for path in (store.root / "aside").iterdir()] == ["gate.lock"]
    store.write_task(KEY, {"key": KEY})
    assert len(folders(store)) == 1


def test_folders_of_dead_processes_are_removed(store: Store) -> None:
    """Folders of living processes and finished objects are kept."""
    abandoned = store.root / "aside" / "dead"
    abandoned.mkdir()
    (abandoned / "weights.safetensors").write_bytes(b"half")
    [living] = set(folders(store)) - {abandoned}
    Store(store.root).prepare()
    assert not abandoned.exists()
    assert living.exists()
    assert staged(store) == []
    assert store.has(KEY)


def test_exclusive_counts_other_writers(store: Store) -> None:
    """Other processes count once they have written, and until they close; the caller does not count."""
    other = Store(store.root)
    with other.exclusive() as others:
        assert others == 1
    other.prepare()
    with other.exclusive() as others:
        assert others == 1
    store.close()
    with other.exclusive() as others:
        assert others == 0


def test_exclusive_keeps_others_from_writing(store: Store) -> None:
    """A second writer, exclusive or not, gets an error after the time-out."""
    waiting = StagingArea(Layout(store.root), timeout=0.1)
    message = f"store {store.root}: another process has kept it locked for 0.1 seconds; try again"
    with store.exclusive():
        with pytest.raises(StoreError) as caught:
            waiting.new_path()
        assert str(caught.value) == message
        with pytest.raises(StoreError) as caught, waiting.exclusive():
            pytest.fail("it was not exclusive")
        assert str(caught.value) == message
        waiting.sweep()
    assert waiting.new_path().parent.is_dir()
    waiting.close()
