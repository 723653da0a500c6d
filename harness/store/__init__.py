"""Content-addressed objects on disk. `harness.store.layout` defines the files and folders."""

from __future__ import annotations

from harness.store.maintenance import Corruption, Unreferenced, Usage
from harness.store.store import Store

__all__ = ["Corruption", "Store", "Unreferenced", "Usage"]
