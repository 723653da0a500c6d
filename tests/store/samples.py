"""Keys and tensors for the tests of the store, and what it has staged and quarantined."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.api.task import key_of
from harness.store import Store

KEY, OTHER = key_of("one"), key_of("other")
WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def staged(store: Store) -> list[Path]:
    """Return the unfinished writes in the staging area."""
    found = []
    for path in (store.root / "aside").iterdir():
        if path.is_dir():
            found += list(path.iterdir())
    return found


def quarantined(store: Store) -> list[Path]:
    """Return the entries of the quarantine, sorted."""
    return sorted((store.root / "set_aside").iterdir())
