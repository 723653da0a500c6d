"""Reads a large `results.csv` by columns: a million rows in a few seconds.

It reads valid files alone. Whatever is unusual is left to the reader of `harness/results/rows.py`, which goes line by line and
names file, line and field of a mistake.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.results.csv_file import flag, integer
from harness.results.rows import (
    COLUMNS,
    DIRECTIONS,
    NEEDED_COLUMNS,
    STATUSES,
    Row,
    load_rows,
    results_file,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LARGE = 4_000_000
"""Bytes of all files together from which on the import of pandas is worth its time."""

_FIELD = rb'(?:[^",\n]*+|"[^"]*+(?:""[^"]*+)*+")'
_KEYS = re.compile(r"(?:[0-9a-f]{64}\n)*+")
_KEYS_OR_NONE = re.compile(r"(?:(?:[0-9a-f]{64})?\n)*+")
_NUMBERS = re.compile(r"(?:(?:[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf|nan)?\n)*+")


def load_many(paths: Sequence[Path]) -> dict[str, pd.DataFrame | list[Row]]:
    """Return the rows of files or runs' folders by path: as DataFrames if they are large.

    Raise `UserError`, as `path:line: what is wrong`, for the first invalid line.
    """
    by_columns = sum(_size(path) for path in paths) >= LARGE
    found: dict[str, pd.DataFrame | list[Row]] = {}
    for path in paths:
        columns = read_columns(path) if by_columns else None
        found[str(path)] = load_rows(path) if columns is None else columns
    return found


def _size(path: Path) -> int:
    try:
        return results_file(path).stat().st_size
    except OSError:  # `load_rows` says what is wrong
        return 0


def read_columns(path: str | Path) -> pd.DataFrame | None:
    """Return the rows of a valid file as a DataFrame; None for a file that must be read line by line.

    It has the columns and types of `frame`.
    """
    try:
        data = results_file(Path(path)).read_bytes()
    except OSError:
        return None
    header = _header(data)
    if header is None or not _lines_pattern(len(header)).fullmatch(data):
        return None
    import pandas as pd

    try:
        texts = pd.read_csv(io.BytesIO(data), dtype=object, na_filter=False, index_col=False, engine="c")
        _check_rows(texts)
        columns = _columns(texts)
    except ValueError:  # also UnicodeDecodeError, and pandas' ParserError and EmptyDataError
        return None
    return pd.DataFrame(columns, copy=False)


def _header(data: bytes) -> list[str] | None:
    """Return the columns of a file without carriage returns and NUL, if the needed ones are there, and all once."""
    if b"\r" in data or b"\0" in data or data.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        [header] = csv.reader([data.partition(b"\n")[0].decode()], strict=True)
    except (ValueError, csv.Error):
        return None
    if len(set(header)) < len(header) or not set(NEEDED_COLUMNS) <= set(header):
        return None
    return header


@lru_cache(maxsize=8)
def _lines_pattern(fields: int) -> re.Pattern[bytes]:
    """Return the pattern of whole lines of so many fields, each a plain or a well quoted one."""
    return re.compile(rb"(?:%s(?:,%s){%d}\n)*+" % (_FIELD, _FIELD, fields - 1))


def _columns(texts: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the columns of `Row` from texts. Raise `ValueError` for a field that is not valid by itself."""
    import numpy as np
    import pandas as pd

    columns: dict[str, pd.Series] = {}
    for name in COLUMNS:
        if name not in texts:
            columns[name] = pd.Series([""] * len(texts), dtype=object)
        elif name in ("seed", "members"):
            columns[name] = _mapped(texts[name], partial(integer, name), np.int64)
        elif name == "main":
            columns[name] = _mapped(texts[name], partial(flag, name), np.bool_)
        elif name in ("value", "standard_error"):
            columns[name] = _numbers(texts[name])
        else:
            columns[name] = texts[name]
    return columns


def _mapped(texts: pd.Series, read: Callable[[str], int | bool], kind: type[np.generic]) -> pd.Series:
    """Return the values of texts, of which few are different. Raise `ValueError` if one does not fit the type."""
    import numpy as np
    import pandas as pd

    codes, different = pd.factorize(texts)
    try:
        values = np.array([read(text) for text in different], dtype=kind)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return pd.Series(values[codes])


def _numbers(texts: pd.Series) -> pd.Series:
    """Return numbers; NaN for an empty text. Raise `ValueError` for a text that is no number."""
    import pandas as pd

    written = list(texts)
    if not _all_match(_NUMBERS, written):
        raise ValueError("no number")
    return pd.Series([float(text or "nan") for text in written], dtype="float64")


def _check_rows(texts: pd.DataFrame) -> None:
    """Raise `ValueError` unless each line is a valid row: known words, and what its status demands."""
    if not (set(texts["status"]) <= set(STATUSES) and set(texts["better"]) <= set(DIRECTIONS)):
        raise ValueError("an unknown word")
    done = (texts["status"] == "done").to_numpy()
    if ((texts["value"] != "").to_numpy() != done).any():
        raise ValueError("a value without a done status, or the reverse")
    for name in ("cell", "key"):
        if not _all_match(_KEYS, list(texts[name][done])) or not _all_match(_KEYS_OR_NONE, list(texts[name][~done])):
            raise ValueError("no key")
    if not _all_match(_KEYS_OR_NONE, list(texts["setting"].unique())):
        raise ValueError("no key")


def _all_match(lines: re.Pattern[str], texts: list[str]) -> bool:
    """Return whether each text is a line that the pattern of lines accepts."""
    joined = "".join([f"{text}\n" for text in texts])
    return joined.count("\n") == len(texts) and lines.fullmatch(joined) is not None
