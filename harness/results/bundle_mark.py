"""Whether a folder is a published bundle, for commands that would overwrite its files. `harness.bundles` writes bundles."""

from __future__ import annotations

from pathlib import Path

DIGESTS = "digests.json"
BENCHMARK = "benchmark.json"


def is_bundle(folder: Path) -> bool:
    """Return whether `harness publish` has written the folder, and completed it."""
    return (folder / DIGESTS).is_file() and (folder / BENCHMARK).is_file()
