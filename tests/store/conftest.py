"""The store that the tests of `harness.store` use."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store import Store
from store.samples import KEY, WEIGHTS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one object in it."""
    store = Store(tmp_path / "store")
    store.put(KEY, {"kind": "train", "spec": {"x": 1}}, {"weights": WEIGHTS})
    return store
