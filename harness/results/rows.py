"""Rows: one measured number each, as they stand in `results.csv` and in a DataFrame. Knows nothing of how they came about.

Importing this costs no pandas: only `frame` needs it. `docs/board.md` describes the columns.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import UserError
from harness.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["done", "failed", "missing"]
Better = Literal["higher", "lower", ""]

FILE_NAME = "results.csv"

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf|nan")
_KEY = re.compile(r"[0-9a-f]{64}")
_NUMBERS, _INTEGERS, _FLAGS = ("value", "standard_error"), ("seed", "members"), ("main",)
_LONGEST_FIELD = 2**31 - 1  # csv's own limit, 131072 characters, would refuse lines that were written without complaint


@dataclass(frozen=True)
class Row:
    """One number of one metric, for one ensemble: one line of `results.csv`, its columns in this order.

    A failed or missing row has no value and says why in `message`. `cell` is the ensemble's key and `key` the measurement's;
    only a row that is not done may lack them. `setting` is the key of data set × architecture × recipe, empty if unknown. A
    done row's value may be NaN: then the metric's own value was NaN. `warning` says why the ensemble is degenerate, if it is.
    """

    benchmark: str
    dataset: str
    architecture: str
    method: str
    seed: int
    metric: str
    value: float | None
    standard_error: float | None = None
    unit: str = ""
    better: Better = ""
    main: bool = True
    status: Status = "done"
    message: str = ""
    members: int = 0
    metric_version: str = ""
    options: str = ""
    setting: str = ""
    cell: str = ""
    key: str = ""
    method_version: str = ""
    objective: str = ""
    warning: str = ""

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"status {self.status!r} is none of {', '.join(get_args(Status))}")
        if self.better not in get_args(Better):
            raise ValueError(f"better {self.better!r} is none of higher, lower and nothing")
        if self.status == "done" and self.value is None:
            raise ValueError("a done row needs a value")
        if self.status != "done" and self.value is not None:
            raise ValueError(f"a {self.status} row has no value, not {self.value}")
        if not -(2**63) <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} does not fit in 64 bits")
        for name, key in (("cell", self.cell), ("key", self.key)):
            if not _KEY.fullmatch(key) and (key or self.status == "done"):
                raise ValueError(f"{name} {key!r} is not 64 hexadecimal digits")
        if self.setting and not _KEY.fullmatch(self.setting):
            raise ValueError(f"setting {self.setting!r} is not 64 hexadecimal digits")

    @property
    def place(self) -> tuple[str, str, str, str, int, str]:
        """What the row is a number of: benchmark, dataset, architecture, method, seed, metric."""
        return self.benchmark, self.dataset, self.architecture, self.method, self.seed, self.metric


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_LATER = ("method_version", "objective", "warning")  # older files have rows without them: nothing is known then


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows to a CSV file, in their order, all or nothing."""
    lines = [COLUMNS, *([_text(name, getattr(row, name)) for name in COLUMNS] for row in rows)]
    write_atomically(path, "".join(csv_line(line) for line in lines))


def read_rows(path: str | Path) -> pd.DataFrame:
    """Return the rows of a `results.csv`, or of the one in a run's folder, as a DataFrame (see `frame`).

    Every line is checked; the first offence raises `UserError` as `path:line: what is wrong`.
    """
    return frame(load_rows(path))


def load_rows(path: str | Path) -> list[Row]:
    """Return the rows of a `results.csv`, or of the one in a run's folder, as `read_rows` does, without pandas."""
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{path}: no {FILE_NAME}; name a folder that `harness run FILE --out DIR` has written")
    rows = []
    needed = [name for name in COLUMNS if name not in _LATER]
    for line, fields in read_table(file, needed):
        try:
            rows.append(_parse({**dict.fromkeys(_LATER, ""), **fields}))
        except ValueError as offence:
            raise UserError(f"{file}:{line}: {offence}") from None
    return rows


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return a DataFrame with the columns of `Row`: seed and members int64, value and standard_error float64 (NaN: none),
    main bool, all else text (dtype object, `""`: none)."""
    import pandas as pd  # here, so that listing plugins does not pay for it

    dtypes = {**dict.fromkeys(_NUMBERS, "float64"), **dict.fromkeys(_INTEGERS, "int64"), **dict.fromkeys(_FLAGS, "bool")}
    rows = list(rows)
    columns = {name: pd.Series([getattr(row, name) for row in rows], dtype=dtypes.get(name, "object")) for name in COLUMNS}
    return pd.DataFrame(columns)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a DataFrame made by `frame`, whatever was filtered or concatenated since."""
    rows = []
    for record in frame[list(COLUMNS)].itertuples(index=False, name=None):
        fields: dict[str, Any] = dict(zip(COLUMNS, record))
        error = float(fields["standard_error"])
        fields["standard_error"] = None if error != error else error
        fields["value"] = float(fields["value"]) if fields["status"] == "done" else None
        fields.update(seed=int(fields["seed"]), members=int(fields["members"]), main=bool(fields["main"]))
        rows.append(Row(**fields))
    return rows


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, fields by column) for each line of a CSV file with a header that holds at least these columns.

    A file that is missing, not UTF-8, cut short or not CSV raises `UserError` with the path and the line.
    """
    found = _lines(path)
    if not found:
        raise UserError(f"{path}:1: the file is empty; its first line must name the columns {', '.join(columns)}")
    _, header = found[0]
    absent = [name for name in columns if name not in header]
    if absent:
        raise UserError(f"{path}:1: no column '{absent[0]}'; needed: {', '.join(columns)}")
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise UserError(f"{path}:1: column '{twice[0]}' stands there twice; name it once")
    for line, fields in found[1:]:
        if len(fields) != len(header):
            raise UserError(f"{path}:{line}: {len(fields)} fields, the header has {len(header)}; was the file cut short?")
    return [(line, dict(zip(header, fields))) for line, fields in found[1:]]


def number(name: str, text: str) -> float:
    """Return the number that a field holds; raise `ValueError` otherwise."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} {text!r} is not a number")
    return float(text)


def integer(name: str, text: str) -> int:
    """Return the integer that a field holds; raise `ValueError` otherwise."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{name} {text!r} is not an integer")
    return int(text)


def flag(name: str, text: str) -> bool:
    """Return the truth that a field holds; raise `ValueError` otherwise."""
    if text not in ("true", "false"):
        raise ValueError(f"{name} {text!r} is neither true nor false")
    return text == "true"


def csv_line(fields: Iterable[str]) -> str:
    """Return one line of CSV (RFC 4180, ended by a line feed).

    Python's own writer leaves a lone carriage return unquoted where lines end in a line feed, and then cannot read it back.
    """
    return ",".join(f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set(',"\r\n') else text for text in fields) + "\n"


def _text(name: str, value: Any) -> str:
    """Return a field as it stands in the file; numbers so that they read back exactly."""
    if name in _NUMBERS:
        return "" if value is None else repr(float(value))
    if name in _FLAGS:
        return "true" if value else "false"
    return str(value)


def _parse(fields: dict[str, str]) -> Row:
    """Return the row that a line of the file holds; raise `ValueError` on the first field that is not what it must be."""
    converted: dict[str, Any] = {name: number(name, fields[name]) if fields[name] else None for name in _NUMBERS}
    converted |= {name: integer(name, fields[name]) for name in _INTEGERS}
    converted |= {name: flag(name, fields[name]) for name in _FLAGS}
    return Row(**{name: converted.get(name, fields[name]) for name in COLUMNS})


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, fields) of a CSV file, blank lines left out."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    if text and not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise UserError(f"{path}:{line}: no line break ends the last line; add one, or was the file cut short?")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit, found, line = csv.field_size_limit(_LONGEST_FIELD), [], 1
    try:
        for fields in reader:
            found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not CSV: {error}; was the file cut short?") from None
    finally:
        csv.field_size_limit(limit)
    return [(line, fields) for line, fields in found if fields]
