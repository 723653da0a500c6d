"""The store as a whole: where it lies, and what using it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DamagedObject, StoreError
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A store that does not exist, or may not be written, can be asked; no folder is made by it."""
    store = Store(tmp_path / "none")
    assert not store.has(KEY)
    assert not store.present(KEY)
    assert store.epochs(KEY) == {}
    assert store.keys() == []
    assert store.saved_steps(KEY) == []
    with pytest.raises(DamagedObject, match=r"meta\.json is not there"):
        store.meta(KEY)
    with pytest.raises(StoreError, match="nothing under"):
        store.resolve(KEY)
    assert store.maintenance.usage()
    assert list(store.maintenance.find_corruption()) == []
    assert list(tmp_path.iterdir()) == []


def test_store_is_found_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is relative to the working folder of when the store was opened."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store(Path("store"))
    store.put(KEY, {}, {"weights": WEIGHTS})
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put(OTHER, {}, {"weights": WEIGHTS})
    assert store.damage(KEY) == ""
    assert store.damage(OTHER) == ""
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert store.path(KEY) == Path("store") / "objects" / KEY[:2] / KEY / "weights.safetensors"


def test_file_in_place_of_a_store_is_one_line(tmp_path: Path) -> None:
    """A store that cannot be made is the user's mistake."""
    (tmp_path / "file").write_text("")
    message = "cannot be used: a file is in the way; choose another folder with --store"
    with pytest.raises(StoreError, match=message):
        Store(tmp_path / "file").prepare()
