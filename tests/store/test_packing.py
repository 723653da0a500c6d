"""Objects and training states on their way from one store to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import DamagedObject
from harness.store import Store
from harness.store.packing import EntryName, PackedEntry
from store.samples import KEY, OTHER, WEIGHTS, quarantined, staged


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "other")


def test_object(store: Store, other: Store) -> None:
    """It arrives with the same bytes in all files."""
    other.accept(store.pack(EntryName(KEY)))
    assert other.meta(KEY) == store.meta(KEY)
    assert other.path(KEY).read_bytes() == store.path(KEY).read_bytes()
    assert staged(other) == []


def test_object_that_is_there(store: Store, other: Store) -> None:
    """An intact one is kept; a damaged one is quarantined and replaced."""
    entry = store.pack(EntryName(KEY))
    other.accept(entry)
    other.accept(entry)
    assert quarantined(other) == []
    other.path(KEY).write_bytes(b"")
    other.accept(entry)
    assert other.damage_reason(KEY) == ""
    assert len(quarantined(other)) == 1


def test_training_state(store: Store, other: Store) -> None:
    """It arrives with its step, and replaces those of earlier steps alone."""
    store.training_states.save(OTHER, 5, {"task": KEY}, {"weights": WEIGHTS})
    for step in (3, 9):
        other.training_states.save(OTHER, step, {"task": KEY}, {"weights": WEIGHTS})
    other.accept(store.pack(EntryName(OTHER, 5)))
    assert other.training_states.steps(OTHER) == [9, 5]
    assert other.training_states.load(OTHER, 5)[0]["step"] == 5


def test_states_of_a_finished_training(store: Store) -> None:
    """They are removed by the name of the training; those of a task that is not done stay."""
    store.training_states.save(OTHER, 4, {"task": KEY}, {})
    store.drop_finished_states(OTHER)
    assert store.training_states.steps(OTHER) == []
    store.training_states.save(OTHER, 4, {"task": OTHER}, {})
    store.drop_finished_states(OTHER)
    assert store.training_states.steps(OTHER) == [4]


def changed(entry: PackedEntry, name: str, data: bytes) -> PackedEntry:
    """Return an entry with another content of one file."""
    return replace(entry, files={**entry.files, name: data})


def flipped(data: bytes) -> bytes:
    """Return data with another last byte."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("name", ["meta.json", "weights.safetensors"])
def test_corrupted_transfer(store: Store, other: Store, name: str) -> None:
    """A changed byte of any file is found on arrival, and nothing is stored."""
    entry = store.pack(EntryName(KEY))
    with pytest.raises(DamagedObject):
        other.accept(changed(entry, name, flipped(entry.files[name])))
    assert not other.present(KEY)
    assert staged(other) == []


def test_object_under_another_key(store: Store, other: Store) -> None:
    """It is refused."""
    entry = replace(store.pack(EntryName(KEY)), name=EntryName(OTHER))
    with pytest.raises(DamagedObject, match=r"meta\.json does not match its digest"):
        other.accept(entry)


@pytest.mark.parametrize("name", ["../../stolen", "/etc/stolen", "a/b.safetensors", "other"])
def test_file_with_a_hostile_name(store: Store, other: Store, name: str) -> None:
    """It is refused before anything is written under that name."""
    entry = changed(store.pack(EntryName(KEY)), name, b"")
    with pytest.raises(DamagedObject, match="is not the name of a file of an object"):
        other.accept(entry)
    assert not list(other.root.rglob("*stolen*"))


def test_file_that_the_metadata_does_not_name(store: Store, other: Store) -> None:
    """The object is refused."""
    entry = changed(store.pack(EntryName(KEY)), "more.safetensors", b"")
    with pytest.raises(DamagedObject, match="it has files that its metadata does not name"):
        other.accept(entry)


def test_damaged_object_is_not_sent(store: Store) -> None:
    """Packing it raises an error."""
    store.path(KEY).write_bytes(flipped(store.path(KEY).read_bytes()))
    with pytest.raises(DamagedObject, match=r"weights\.safetensors does not match its digest"):
        store.pack(EntryName(KEY))
