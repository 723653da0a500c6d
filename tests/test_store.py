"""The store: whole objects or none, digests checked on reading, every file touched by rot detected."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from harness.errors import DamagedObject, StoreError
from harness.store import Store
from harness.task import key_of

KEY, OTHER = key_of("one"), key_of("other")
WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one object in it."""
    store = Store(tmp_path / "store")
    store.put(KEY, {"kind": "train", "spec": {"x": 1}}, {"weights": WEIGHTS})
    return store


def half_written(store: Store) -> list[Path]:
    """Return what is being written, or was left in the middle of it."""
    return [path for place in (store.root / "aside").iterdir() if place.is_dir() for path in place.iterdir()]


def test_object_comes_back_as_it_was_put(store: Store) -> None:
    """Tensors, their types and the meta-data return unchanged."""
    assert store.has(KEY)
    read = store.tensors(KEY)
    assert all(torch.equal(read[name], WEIGHTS[name]) and read[name].dtype == WEIGHTS[name].dtype for name in WEIGHTS)
    assert store.meta(KEY)["spec"] == {"x": 1}
    assert list(store.keys()) == [KEY]


def test_channels_last_tensors_are_stored_plainly(store: Store) -> None:
    """What is stored is the plain layout, whatever the memory format was."""
    tensor = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    store.put(OTHER, {}, {"weights": {"t": tensor}})
    assert torch.equal(store.tensors(OTHER)["t"], tensor)


def test_object_that_is_there_stays(store: Store) -> None:
    """Putting a key again changes nothing."""
    store.put(KEY, {"kind": "else"}, {})
    assert store.meta(KEY)["kind"] == "train"
    assert half_written(store) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
@pytest.mark.parametrize("file", ["weights.safetensors", "meta.json"])
def test_rot_is_detected(store: Store, file: str, damage: str) -> None:
    """A byte flipped, a file cut, emptied or removed is found on reading, and nothing of the object is used."""
    path = store.path(KEY).parent / file
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.unlink() if damage == "remove" else path.write_bytes({"flip": data, "cut": data[:-3], "empty": b""}[damage])
    with pytest.raises(DamagedObject):
        store.tensors(KEY)
    with pytest.raises(DamagedObject):
        store.verify(KEY)


def test_swapped_objects_are_detected(store: Store) -> None:
    """An object under another's key is not taken for it."""
    store.put(OTHER, {"kind": "train"}, {"weights": {"a": torch.zeros(1)}})
    shutil.rmtree(store.path(KEY).parent)
    store.path(OTHER).parent.rename(store.path(KEY).parent)
    with pytest.raises(DamagedObject, match=r"meta\.json does not match its digest"):
        store.meta(KEY)


def test_cut_file_counts_as_missing(store: Store) -> None:
    """The size alone tells that a file was cut, so that a plan sees it."""
    os.truncate(store.path(KEY), 10)
    assert not store.has(KEY)
    assert store.present(KEY)


def test_set_aside_keeps_the_bytes(store: Store) -> None:
    """A damaged object is moved, never deleted, and its key is free again."""
    where = store.set_aside(KEY)
    assert (where / "weights.safetensors").exists()
    assert not store.present(KEY)


def test_progress_keeps_the_last_state(store: Store) -> None:
    """Of a training's states the last stays; a damaged one is refused."""
    for step in (3, 7):
        store.save_progress(KEY, step, {"step": step}, {"weights": WEIGHTS})
    assert list(store.progress(KEY)) == [7]
    meta, parts = store.load_progress(KEY, 7)
    assert meta["step"] == 7
    assert torch.equal(parts["weights"]["a"], WEIGHTS["a"])
    path = next((store.root / "progress").rglob("weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedObject):
        store.load_progress(KEY, 7)
    store.drop_progress(KEY, 7)
    assert list(store.progress(KEY)) == []


def test_lease_is_exclusive_and_free_again(store: Store) -> None:
    """A second holder is told so at once; afterwards it gets it."""
    with store.lease(KEY) as first, store.lease(KEY) as second:
        assert (first, second) == (True, False)
    with store.lease(KEY) as third:
        assert third


def test_lease_leaves_no_file(store: Store) -> None:
    """The lock's file goes with the lock; whoever waited for it takes the next one."""
    with store.lease(KEY):
        assert [path.name for path in (store.root / "leases").iterdir()] == [f"{KEY}.lock"]
    assert list((store.root / "leases").iterdir()) == []


def test_damaged_object_in_the_way_is_set_aside(store: Store) -> None:
    """Putting a key under which something damaged lies, whatever it is, puts it; the damaged bytes are kept."""
    folder = store.path(KEY).parent
    for spoil in (lambda: os.truncate(store.path(KEY), 3), lambda: (shutil.rmtree(folder), folder.write_text("a file"))):
        spoil()
        store.put(KEY, {"kind": "train"}, {"weights": WEIGHTS})
        assert store.damage(KEY) == ""
    assert len(list((store.root / "set_aside").iterdir())) == 2


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A store that is not there, or may not be written, can be asked; no folder is made by it."""
    store = Store(tmp_path / "none")
    assert not store.has(KEY)
    assert not store.present(KEY)
    assert store.epochs(KEY) == {}
    assert list(store.keys()) == list(store.progress(KEY)) == []
    with pytest.raises(DamagedObject, match=r"meta\.json is not there"):
        store.meta(KEY)
    with pytest.raises(StoreError, match="nothing under"):
        store.resolve(KEY)
    assert list(tmp_path.iterdir()) == []


def test_arriving_early_leaves_later_states_alone(store: Store) -> None:
    """Who trains up to an earlier epoch forgets the states up to there; those beyond belong to somebody else."""
    for step in (3, 9):
        store.save_progress(KEY, step, {}, {})
    store.save_progress(KEY, 5, {}, {})
    assert list(store.progress(KEY)) == [9, 5]
    store.drop_progress(KEY, 5)
    assert list(store.progress(KEY)) == [9]


def test_state_of_a_training_that_has_arrived_goes(store: Store) -> None:
    """A run that was killed between its arrival and its tidying is tidied up after; other states stay."""
    store.save_progress(OTHER, 4, {"task": KEY}, {})
    store.save_progress(KEY, 4, {"task": OTHER}, {})
    store.prepare()
    assert list(store.progress(OTHER)) == []
    assert list(store.progress(KEY)) == [4]


def test_store_is_found_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the folder of when the store was opened: a plugin may change it."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store(Path("store"))
    store.put(KEY, {}, {"weights": WEIGHTS})
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put(OTHER, {}, {"weights": WEIGHTS})
    assert store.damage(KEY) == store.damage(OTHER) == ""
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert store.path(KEY) == Path("store") / "objects" / KEY[:2] / KEY / "weights.safetensors"


def test_two_writers_of_one_key(store: Store) -> None:
    """Who comes second finds a whole object and is content; nothing of it is left."""
    threads = [threading.Thread(target=Store(store.root).put, args=(OTHER, {}, {"weights": WEIGHTS})) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.damage(OTHER) == ""
    assert half_written(store) == []
    assert list((store.root / "set_aside").iterdir()) == []


def test_epochs_of_a_trajectory_need_their_objects(store: Store) -> None:
    """Only checkpoints that are really there are reported."""
    store.note_epoch(OTHER, 4, KEY)
    store.note_epoch(OTHER, 9, key_of("gone"))
    assert store.epochs(OTHER) == {4: KEY}
    assert store.epochs(KEY) == {}


def test_tasks_and_failures_are_json(store: Store) -> None:
    """A task comes back, a missing one is a clear error."""
    store.write_task(KEY, {"key": KEY, "kind": "train"})
    assert store.read_task(KEY) == {"key": KEY, "kind": "train"}
    store.record_failure(KEY, {"message": "diverged"})
    path = next((store.root / "failures").rglob("*.json"))
    assert json.loads(path.read_text())["message"] == "diverged"
    with pytest.raises(StoreError, match="no readable task"):
        store.read_task(OTHER)


def test_keys_resolve_from_their_beginning(store: Store) -> None:
    """A unique beginning is enough; anything else says what to do."""
    assert store.resolve(KEY[:8]) == KEY
    with pytest.raises(StoreError, match="nothing under 'ffffffff'; give more or other digits"):
        store.resolve("ffffffff")
    with pytest.raises(StoreError, match=r"'\.\./x' is not a key; 4 to 64 hexadecimal digits"):
        store.resolve("../x")


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, "CON"])
def test_nothing_but_a_key_becomes_a_path(store: Store, key: str) -> None:
    """No name leaves the store."""
    with pytest.raises(ValueError, match="is not a key"):
        store.path(key)
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.path(KEY, "../weights")


def test_full_disk_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running out of space says so, leaves no half object and no rest."""
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match=rf"cannot take object {OTHER[:12]}: no space left on the device; free some"):
        store.put(OTHER, {}, {"weights": WEIGHTS})
    monkeypatch.undo()
    assert not store.present(OTHER)
    assert half_written(store) == []


def test_store_in_the_way_of_a_file_is_one_line(tmp_path: Path) -> None:
    """A store that cannot be made is the user's mistake."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used: a file is in the way; choose another folder with --store"):
        Store(tmp_path / "file").prepare()


def test_sweep_removes_what_dead_writers_left(store: Store) -> None:
    """Folders and files left in the middle of writing go; finished objects stay."""
    rest = store.root / "aside" / "dead"
    rest.mkdir()
    (rest / "weights.safetensors").write_bytes(b"half")
    store.prepare()
    assert not rest.exists()
    assert half_written(store) == []
    assert store.has(KEY)
