"""Contributions of test images to a run's main values, in `examples.npz`, for comparisons image by image.

The file holds one array per measurement, under the measurement's key: the column `key` of `results.csv`. An array has one entry
per test image: bool if every contribution is 0 or the full one (100 in percent, else 1), and otherwise float32 in the row's
unit. `docs/statistics.md` describes the file. Needs numpy only.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from harness.errors import UserError
from harness.files import replaced_file

FILE_NAME = "examples.npz"

_KEY = re.compile(r"[0-9a-f]{64}")
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can state: the same arrays give the same bytes
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError)


def encode_examples(examples: np.ndarray, unit: str) -> np.ndarray | None:
    """Return contributions (images,) as the file holds them; None if one of them is not finite in float32."""
    values = examples.astype(np.float64)
    full = _full(unit)
    if np.isin(values, (0.0, full)).all():
        return values == full
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        return None
    return single


def decode_examples(stored: np.ndarray, unit: str) -> np.ndarray:
    """Return contributions in the row's unit, float64 (images,), from an array of the file."""
    values = stored.astype(np.float64)
    if stored.dtype == np.bool_:
        values *= _full(unit)
    return values


def _full(unit: str) -> float:
    return 100.0 if unit == "percent" else 1.0


def write_examples(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write `examples.npz` from (key, array) in their order, one array in memory at a time. Keys must be different.

    The same arrays give the same bytes. A reader sees the old file or the whole new one. Raise `UserError` if the file cannot
    be written.
    """
    with replaced_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for key, array in arrays:
            archive.writestr(_entry(key), _npy(array))


def _entry(key: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(f"{key}.npy", _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # the same on every system
    entry.external_attr = 0o644 << 16
    return entry


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


class Examples:
    """The contributions in a run's `examples.npz`. An array is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Open a file, or the one in a run's folder; a missing file holds nothing. Raise `UserError` for a damaged one."""
        self.path = path / FILE_NAME if path.is_dir() else path
        self.keys: frozenset[str] = frozenset()
        self._archive: zipfile.ZipFile | None = None  # open as long as this object lives, since its directory may be long
        try:
            self._archive = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            return
        except _UNREADABLE as error:
            raise self._damaged(error) from None
        names = [name.removesuffix(".npy") for name in self._archive.namelist()]
        self.keys = frozenset(name for name in names if _KEY.fullmatch(name))

    def read(self, key: str, unit: str) -> np.ndarray | None:
        """Return the contributions of a measurement in the unit of its row, float64 (images,); None if there are none.

        Raise `UserError` for a damaged file.
        """
        if self._archive is None or key not in self.keys:
            return None
        try:
            with self._archive.open(f"{key}.npy") as file:
                stored = np.lib.format.read_array(file, allow_pickle=False)
        except _UNREADABLE as error:
            raise self._damaged(error) from None
        if stored.ndim != 1 or stored.dtype not in (np.bool_, np.float32):
            raise UserError(f"{self.path}: {key[:12]} is {stored.dtype} {stored.shape}; bool or float32 (images,) is expected")
        return decode_examples(stored, unit)

    def _damaged(self, error: Exception) -> UserError:
        reason = str(error) or type(error).__name__
        return UserError(f"{self.path}: cannot be read: {reason}; run the benchmark again to write it anew, or remove it")
