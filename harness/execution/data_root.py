"""The folder of the data sets where the user named none, and what to say if a data set needed one that is not usable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import DataError, HarnessError

NO_DATA_ROOT = Path(os.devnull, "no-data-root")
"""Stands for a data root where there is none: no file can be there, and none can be made."""


def default_data_root() -> Path:
    """Return the folder of data sets in the user's cache folder, or `NO_DATA_ROOT` if the user has no home folder."""
    import platformdirs

    try:
        root = platformdirs.user_cache_path("basin-harness") / "data"
    except (RuntimeError, KeyError, OSError):
        return NO_DATA_ROOT
    return root if root.is_absolute() else NO_DATA_ROOT


@contextmanager
def explained(dataset: str, root: Path) -> Iterator[None]:
    """Name the way out if a data set cannot be loaded because the data root cannot be had or written.

    Data sets that need no data root (digits) never notice that there is none.
    """
    try:
        yield
    except HarnessError as error:
        if root == NO_DATA_ROOT:
            raise DataError(
                f"data set '{dataset}': there is no data root, since HOME is not set and the user has no home folder; "
                "name a folder with --data or HARNESS_DATA"
            ) from error
        if isinstance(error, DataError) and not _can_be_made(root):
            advice = f"or name another data root with --data or HARNESS_DATA, since {root} cannot be written"
            raise DataError(f"{error}; {advice}") from error
        raise


def _can_be_made(root: Path) -> bool:
    """Say whether the folder, or the nearest one above that is there, can be written."""
    for folder in (root, *root.parents):
        if folder.exists():
            return folder.is_dir() and os.access(folder, os.W_OK)
    return False
