"""The default data root, and error messages for a data root that is missing or cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import DataError, HarnessError

NO_DATA_ROOT = Path(os.devnull, "no-data-root")
"""Placeholder for a missing data root: a path at which no file can exist or be created."""


def default_data_root() -> Path:
    """Return the default data root in the user's cache folder, or `NO_DATA_ROOT` if the user has no home folder."""
    import platformdirs

    try:
        root = platformdirs.user_cache_path("basin-harness") / "data"
    except (RuntimeError, KeyError, OSError):
        return NO_DATA_ROOT
    return root if root.is_absolute() else NO_DATA_ROOT


@contextmanager
def explained(dataset: str, root: Path) -> Iterator[None]:
    """Add advice to errors of loading a data set if the data root is missing or cannot be written.

    A data set that does not use the data root raises no such error.
    """
    try:
        yield
    except HarnessError as error:
        if root == NO_DATA_ROOT:
            raise DataError(
                f"data set '{dataset}': there is no data root, since HOME is not set and the user has no home folder; "
                "name a folder with --data or HARNESS_DATA"
            ) from error
        if isinstance(error, DataError) and not _is_writable(root):
            advice = f"or name another data root with --data or HARNESS_DATA, since {root} cannot be written"
            raise DataError(f"{error}; {advice}") from error
        raise


def _is_writable(root: Path) -> bool:
    """Return whether the folder, or its nearest existing parent, can be written."""
    for folder in (root, *root.parents):
        if folder.exists():
            return folder.is_dir() and os.access(folder, os.W_OK)
    return False
