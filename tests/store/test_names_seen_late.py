"""A store on a file system whose clients remember for some time that a name does not exist, as NFS does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from faults.bad_system import two_mounts
from harness.api.task import key_of
from harness.store import Store

KEY, TRAJECTORY, OTHER = key_of("object"), key_of("trajectory"), key_of("other")
PARTS = {"weights": {"a": torch.arange(6.0)}}


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """One store through two mounts that remember missing names for longer than the test takes."""
    with two_mounts(tmp_path, shared_locks=True, remember=100.0) as (here, there):
        writer, reader = Store(here / "store"), Store(there / "store")
        writer.prepare()
        yield writer, reader
        writer.close()
        reader.close()


def test_object_that_was_looked_for_before(stores: tuple[Store, Store]) -> None:
    """It is not taken as damaged when it is read, and it is seen after `refresh`."""
    writer, reader = stores
    assert not reader.has(KEY)
    assert not reader.present(KEY)
    writer.put(KEY, {"kind": "train"}, PARTS)
    assert not reader.present(KEY)  # without this the test would show nothing
    assert reader.meta(KEY)["kind"] == "train"
    assert not reader.has(OTHER)
    writer.put(OTHER, {}, PARTS)
    reader.refresh(OTHER)
    assert reader.has(OTHER)
    assert reader.damage_reason(OTHER) == ""


def test_missing_object(stores: tuple[Store, Store]) -> None:
    """It is still missing, and nothing is created for it."""
    writer, reader = stores
    assert not reader.has(KEY)
    reader.refresh(KEY)
    assert not reader.has(KEY)
    assert reader.damage_reason(KEY) == "meta.json is not there"
    assert list((writer.root / "objects").iterdir()) == []


def test_state_of_a_training_on_another_machine(stores: tuple[Store, Store]) -> None:
    """The training continues from it."""
    writer, reader = stores
    assert reader.training_states.steps(TRAJECTORY) == []
    writer.training_states.save(TRAJECTORY, 7, {"task": KEY}, PARTS)
    assert reader.training_states.steps(TRAJECTORY) == [7]
    assert torch.equal(reader.training_states.load(TRAJECTORY, 7)[1]["weights"]["a"], PARTS["weights"]["a"])


def test_checkpoints_noted_by_two_machines(stores: tuple[Store, Store]) -> None:
    """No note is lost."""
    writer, reader = stores
    assert reader.epochs(TRAJECTORY) == {}
    for store, epoch, key in ((writer, 1, KEY), (reader, 2, OTHER)):
        store.put(key, {}, PARTS)
        store.note_epoch(TRAJECTORY, epoch, key)
    writer.close()
    assert set(Store(reader.root).epochs(TRAJECTORY)) == {1, 2}
