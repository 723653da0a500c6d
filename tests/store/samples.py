"""Keys and tensors that the tests of the store put."""

from __future__ import annotations

from pathlib import Path

import torch

from harness.api.task import key_of
from harness.store import Store

KEY, OTHER = key_of("one"), key_of("other")
WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def staged(store: Store) -> list[Path]:
    """Return what is being written, or was left by a writer that did not finish."""
    folders = [path for path in (store.root / "aside").iterdir() if path.is_dir()]
    return [path for folder in folders for path in folder.iterdir()]


def quarantined(store: Store) -> list[Path]:
    """Return what is in the quarantine."""
    return sorted((store.root / "set_aside").iterdir())
