"""The store as a whole: its folder, and when it is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DamagedObject, StoreError
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS


def test_reading_creates_nothing(tmp_path: Path) -> None:
    """A store that does not exist is empty, and reading it creates no folder."""
    store = Store(tmp_path / "none")
    assert not store.has(KEY)
    assert not store.present(KEY)
    assert store.epochs(KEY) == {}
    assert store.keys() == []
    assert store.training_states.steps(KEY) == []
    with pytest.raises(DamagedObject, match=r"meta\.json is not there"):
        store.meta(KEY)
    with pytest.raises(StoreError, match="nothing under"):
        store.resolve(KEY)
    assert store.maintenance.usage()
    assert list(store.maintenance.find_corruption()) == []
    assert list(tmp_path.iterdir()) == []


def test_change_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path refers to the working folder at the time when the store was opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store(Path("store"))
    store.put(KEY, {}, {"weights": WEIGHTS})
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put(OTHER, {}, {"weights": WEIGHTS})
    assert store.damage_reason(KEY) == ""
    assert store.damage_reason(OTHER) == ""
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert store.path(KEY) == Path("store") / "objects" / KEY[:2] / KEY / "weights.safetensors"


def test_file_in_place_of_a_store(tmp_path: Path) -> None:
    """The error is one line with advice."""
    (tmp_path / "file").write_text("")
    message = "cannot be used: a file is in the way; choose another folder with --store"
    with pytest.raises(StoreError, match=message):
        Store(tmp_path / "file").prepare()
