"""Objects: intact or absent, checked on reading, quarantined if damaged."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from faults.bad_disk import FULL, BadDisk
from harness import files
from harness.errors import DamagedObject, StoreError
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS, quarantined, staged


def test_object_is_read_as_it_was_written(store: Store) -> None:
    """Tensors, their dtypes and the metadata are unchanged."""
    assert store.has(KEY)
    read = store.tensors(KEY)
    for name, tensor in WEIGHTS.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
    assert store.meta(KEY)["spec"] == {"x": 1}
    assert store.keys() == [KEY]


def test_channels_last_tensors_are_stored_contiguously(store: Store) -> None:
    """The values do not depend on the memory format."""
    tensor = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    store.put(OTHER, {}, {"weights": {"t": tensor}})
    assert torch.equal(store.tensors(OTHER)["t"], tensor)


def test_order_of_tensors(store: Store) -> None:
    """It is that of their names, each time, whatever order they were written in."""
    key = "c" * 64
    names = [f"layer.{number}.weight" for number in range(40)]
    store.put(key, {}, {"weights": {name: torch.ones(1) for name in reversed(names)}})
    for _ in range(5):
        assert list(store.tensors(key)) == sorted(names)
        assert list(store.arrays(key, "weights")) == sorted(names)


def test_part_that_does_not_exist(store: Store) -> None:
    """The error names the part."""
    with pytest.raises(DamagedObject, match="it has no part 'logits'"):
        store.tensors(KEY, "logits")


def test_existing_object_is_kept(store: Store) -> None:
    """Writing an intact object again changes nothing."""
    store.put(KEY, {"kind": "else"}, {})
    assert store.meta(KEY)["kind"] == "train"
    assert staged(store) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
def test_changed_file_is_detected(store: Store, file: str, damage: str) -> None:
    """Reading raises if a byte is flipped or a file is cut, emptied or removed."""
    path = store.path(KEY).parent / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes({"flip": data, "cut": data[:-3], "empty": b""}[damage])
    with pytest.raises(DamagedObject):
        store.tensors(KEY)
    with pytest.raises(DamagedObject):
        store.verify(KEY)


def test_swapped_objects_are_detected(store: Store) -> None:
    """An object in the folder of another key is refused."""
    store.put(OTHER, {"kind": "train"}, {"weights": {"a": torch.zeros(1)}})
    shutil.rmtree(store.path(KEY).parent)
    store.path(OTHER).parent.rename(store.path(KEY).parent)
    with pytest.raises(DamagedObject, match=r"meta\.json does not match its digest"):
        store.meta(KEY)


def test_cut_file_counts_as_missing(store: Store) -> None:
    """`has` compares sizes, so that a plan notices a cut file."""
    os.truncate(store.path(KEY), 10)
    assert not store.has(KEY)
    assert store.present(KEY)


def test_quarantine_keeps_the_bytes(store: Store) -> None:
    """A damaged object is moved, not deleted, and its key is free again."""
    moved_to = store.quarantine(KEY)
    assert (moved_to / "weights.safetensors").exists()
    assert not store.present(KEY)


@pytest.mark.parametrize("damage", ["cut", "file"])
def test_damaged_object_is_quarantined_by_the_next_write(store: Store, damage: str) -> None:
    """Writing the object of a damaged one's key replaces it; the damaged one is kept in quarantine."""
    folder = store.path(KEY).parent
    if damage == "cut":
        os.truncate(store.path(KEY), 3)
    else:
        shutil.rmtree(folder)
        folder.write_text("a file")
    store.put(KEY, {"kind": "train"}, {"weights": WEIGHTS})
    assert store.damage_reason(KEY) == ""
    assert len(quarantined(store)) == 1


def test_concurrent_writers_of_one_key(store: Store) -> None:
    """One writer's object is kept; the others leave nothing staged or quarantined."""
    arguments = (OTHER, {}, {"weights": WEIGHTS})
    threads = [threading.Thread(target=Store(store.root).put, args=arguments) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.damage_reason(OTHER) == ""
    assert staged(store) == []
    assert quarantined(store) == []


def test_folder_removed_while_an_object_is_moved_into_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another process removes the empty folder at that moment, it is created again."""
    shim = BadDisk()
    removed = []

    def rename_after_removal(source: Path, target: Path) -> None:
        if not removed:
            removed.append(target.parent)
            target.parent.rmdir()
        source.rename(target)

    shim.rename = rename_after_removal  # type: ignore[attr-defined]
    monkeypatch.setattr(files, "os", shim)
    store.put(OTHER, {}, {"weights": WEIGHTS})
    assert removed == [store.base / "objects" / OTHER[:2]]
    assert store.damage_reason(OTHER) == ""


def test_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line with advice, and no part of the object remains."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "os", BadDisk(1, refuse=FULL, refused=("fsync",)))
        message = rf"cannot take object {OTHER[:12]}: no space left on the device; free some"
        with pytest.raises(StoreError, match=message):
            store.put(OTHER, {}, {"weights": WEIGHTS})
    assert not store.present(OTHER)
    assert staged(store) == []


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, "CON"])
def test_only_a_key_becomes_a_path(store: Store, key: str) -> None:
    """A path outside the store cannot be made."""
    with pytest.raises(ValueError, match="is not a key"):
        store.path(key)


def test_only_the_name_of_a_part_becomes_a_path(store: Store) -> None:
    """A path outside the object's folder cannot be made."""
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.path(KEY, "../weights")
