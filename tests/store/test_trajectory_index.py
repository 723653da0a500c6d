"""The index of a trajectory: damaged lines and missing objects are ignored, the rest is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api.task import key_of
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS, quarantined


@pytest.fixture
def path(store: Store) -> Path:
    """The index of a trajectory with two stored checkpoints."""
    store.put(OTHER, {}, {"weights": WEIGHTS})
    store.note_epoch(OTHER, 4, KEY)
    store.note_epoch(OTHER, 9, OTHER)
    return store.root / "trajectories" / OTHER[:2] / OTHER


def test_checkpoints_by_epoch(store: Store, path: Path) -> None:
    """The index maps epochs to keys; a trajectory without an index has no checkpoints."""
    assert store.epochs(OTHER) == {4: KEY, 9: OTHER}
    assert store.epochs(KEY) == {}


def test_checkpoint_without_its_object_is_ignored(store: Store, path: Path) -> None:
    """The line is written before the object, so that a crash in between loses nothing."""
    store.note_epoch(OTHER, 11, key_of("gone"))
    assert store.epochs(OTHER) == {4: KEY, 9: OTHER}


@pytest.mark.parametrize("damage", ["epoch", "key", "digest", "extra field"])
def test_damaged_line_is_ignored(store: Store, path: Path, damage: str) -> None:
    """The other lines are used."""
    lines = path.read_text().splitlines()
    epoch, key, digest = lines[0].split(" ")
    lines[0] = {
        "epoch": f"5 {key} {digest}",
        "key": f"{epoch} {OTHER} {digest}",
        "digest": f"{epoch} {key} {digest[::-1]}",
        "extra field": f"{epoch} {key} {digest} {digest}",
    }[damage]
    path.write_text("\n".join(lines) + "\n")
    assert store.epochs(OTHER) == {9: OTHER}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"4\n"])
def test_damaged_index_is_quarantined_on_the_next_write(store: Store, path: Path, content: bytes) -> None:
    """The damaged bytes are kept, and the new index is intact."""
    path.write_bytes(content)
    assert store.epochs(OTHER) == {}
    store.note_epoch(OTHER, 4, KEY)
    assert store.epochs(OTHER) == {4: KEY}
    assert [entry.read_bytes() for entry in quarantined(store)] == [content]
    assert list(store.maintenance.find_corruption()) == []


def test_folder_in_place_of_an_index(store: Store, path: Path) -> None:
    """It is quarantined by the next write."""
    path.unlink()
    path.mkdir()
    assert store.epochs(OTHER) == {}
    store.note_epoch(OTHER, 4, KEY)
    assert store.epochs(OTHER) == {4: KEY}
    assert len(quarantined(store)) == 1


def test_cut_index_is_reported(store: Store, path: Path) -> None:
    """The number of lines in the last line reveals a missing one."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    [corruption] = store.maintenance.find_corruption()
    assert corruption.path == f"trajectories/{OTHER[:2]}/{OTHER}"
    assert "lines do not match their digests; they are passed over" in corruption.reason
