"""Rows of results, one measured number each, in `results.csv` and in a DataFrame. Knows nothing of how they were measured.

Importing this module does not import pandas; only `frame` needs it. `docs/board.md` describes the columns.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import UserError
from harness.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["done", "failed", "missing"]
Better = Literal["higher", "lower", ""]

STATUSES: tuple[str, ...] = get_args(Status)
DIRECTIONS: tuple[str, ...] = get_args(Better)

FILE_NAME = "results.csv"

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf|nan")
_KEY = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("value", "standard_error")
_INTEGERS = ("seed", "members")
_FLAGS = ("main",)
_LONGEST_FIELD = 2**31 - 1  # the csv module's limit, 131072 characters, would refuse lines that `write_rows` has written


@dataclass(frozen=True)
class Row:
    """One number of one metric of one ensemble: one line of `results.csv`, with its columns in this order.

    A failed or missing row has no value, and `message` gives the reason. The value of a done row is NaN if the metric's value
    was NaN. `cell` is the key of the ensemble and `key` that of the measurement; only a row that is not done may lack them.
    `setting` is the key of data set × architecture × recipe, empty if unknown. `warning` says why the ensemble is degenerate,
    and is empty for a sound one. `title` and `symbol` are what the metric's class declares for tables; details have none.
    Raise `ValueError` for fields that contradict each other.
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
    title: str = ""
    symbol: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")
        if self.better not in DIRECTIONS:
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
        """The quantity that the row measures: benchmark, dataset, architecture, method, seed, metric."""
        return self.benchmark, self.dataset, self.architecture, self.method, self.seed, self.metric


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_OPTIONAL_COLUMNS = (
    "method_version",
    "objective",
    "warning",
    "title",
    "symbol",
)  # files of older runs lack them; empty means unknown
NEEDED_COLUMNS = [name for name in COLUMNS if name not in _OPTIONAL_COLUMNS]

_NUMBER_POSITIONS = [(name, COLUMNS.index(name)) for name in _NUMBERS]
_INTEGER_POSITIONS = [(name, COLUMNS.index(name)) for name in _INTEGERS]
_FLAG_POSITIONS = [(name, COLUMNS.index(name)) for name in _FLAGS]


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows to a CSV file, in their order. A reader sees the old file or the whole new one."""
    lines = [csv_line(COLUMNS)]
    for row in rows:
        lines.append(csv_line([_text(name, getattr(row, name)) for name in COLUMNS]))
    write_atomically(path, "".join(lines))


def results_file(path: Path) -> Path:
    """Return the path of a `results.csv`, given that or the run's folder."""
    return path / FILE_NAME if path.is_dir() else path


def read_rows(path: str | Path) -> pd.DataFrame:
    """Return the rows of a `results.csv`, or of the one in a run's folder, as a DataFrame (see `frame`).

    Raise `UserError`, as `path:line: what is wrong`, for the first invalid line.
    """
    return frame(load_rows(path))


def load_rows(path: str | Path) -> list[Row]:
    """Return the rows of a `results.csv`, or of the one in a run's folder, without importing pandas. See `read_rows`."""
    path = Path(path)
    file = results_file(path)
    if not file.exists():
        raise UserError(f"{path}: no {FILE_NAME}; name a folder that `harness run FILE --out DIR` has written")
    rows = []
    header, lines = _table(file, NEEDED_COLUMNS)
    parser = _RowParser(header)
    for line, fields in lines:
        try:
            rows.append(parser.parse(fields))
        except ValueError as error:
            raise UserError(f"{file}:{line}: {error}") from None
    return rows


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Return a DataFrame with the columns of `Row`.

    `seed` and `members` are int64, `value` and `standard_error` float64 (NaN: none), `main` is bool, and the others are text
    (dtype object; empty: none).
    """
    import pandas as pd  # imported here so that `harness list` does not import it

    rows = list(rows)
    dtypes = {**dict.fromkeys(_NUMBERS, "float64"), **dict.fromkeys(_INTEGERS, "int64"), **dict.fromkeys(_FLAGS, "bool")}
    columns = {}
    for name in COLUMNS:
        columns[name] = pd.Series([getattr(row, name) for row in rows], dtype=dtypes.get(name, "object"))
    return pd.DataFrame(columns)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a DataFrame made by `frame`, also after it was filtered or concatenated."""
    rows = []
    for record in frame[list(COLUMNS)].itertuples(index=False, name=None):
        fields: dict[str, Any] = dict(zip(COLUMNS, record))
        standard_error = float(fields["standard_error"])
        fields["standard_error"] = None if math.isnan(standard_error) else standard_error
        fields["value"] = float(fields["value"]) if fields["status"] == "done" else None
        fields.update(seed=int(fields["seed"]), members=int(fields["members"]), main=bool(fields["main"]))
        rows.append(Row(**fields))
    return rows


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, fields by column) for each line of a CSV file whose header holds at least these columns.

    Raise `UserError` with path and line for a file that is missing, not UTF-8, cut short or not CSV.
    """
    header, lines = _table(path, columns)
    return [(line, dict(zip(header, fields))) for line, fields in lines]


def _table(path: Path, columns: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and (line number, fields) for each line after it. See `read_table`."""
    found = _lines(path)
    if not found:
        raise UserError(f"{path}:1: the file is empty; its first line must name the columns {', '.join(columns)}")
    _, header = found[0]
    for name in columns:
        if name not in header:
            raise UserError(f"{path}:1: no column '{name}'; {_expected(header, columns)}")
    for name in columns:
        if header.count(name) > 1:
            raise UserError(f"{path}:1: column '{name}' stands there twice; name it once")
    lines = found[1:]
    for line, fields in lines:
        if len(fields) != len(header):
            raise UserError(f"{path}:{line}: {len(fields)} fields, the header has {len(header)}; was the file cut short?")
    return header, lines


def _expected(header: Sequence[str], columns: Sequence[str]) -> str:
    """Return what a header lacks that does not have all columns. Some spreadsheets separate fields otherwise."""
    for separator, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return f"its fields are separated by {word}: save the file with commas"
    return f"needed: {', '.join(columns)}"


def number(name: str, text: str) -> float:
    """Return the number in the field `name`. Raise `ValueError` for anything else."""
    if not _NUMBER.fullmatch(text):
        point = text.replace(",", ".", 1)
        advice = f"; with a decimal point it is {point}" if _NUMBER.fullmatch(point) else ""
        raise ValueError(f"{name} {text!r} is not a number{advice}")
    return float(text)


def integer(name: str, text: str) -> int:
    """Return the integer in the field `name`. Raise `ValueError` for anything else."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{name} {text!r} is not an integer")
    return int(text)


def flag(name: str, text: str) -> bool:
    """Return the boolean in the field `name`. Raise `ValueError` unless it is `true` or `false`.

    Spreadsheets write capitals.
    """
    if text not in ("true", "false", "TRUE", "FALSE"):
        raise ValueError(f"{name} {text!r} is neither true nor false")
    return text.lower() == "true"


def csv_line(fields: Iterable[str]) -> str:
    """Return one line of CSV (RFC 4180), ended by a line feed.

    Python's `csv.writer` does not quote a lone carriage return if lines end in a line feed, and cannot read it back.
    """
    return ",".join(map(_quoted, fields)) + "\n"


def _quoted(text: str) -> str:
    """Return a field, in quotes if it holds a separator, a quote or a line break."""
    if set(text).isdisjoint(',"\r\n'):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _text(name: str, value: Any) -> str:
    """Return a field of the file. A number reads back exactly."""
    if name in _NUMBERS:
        return "" if value is None else repr(float(value))
    if name in _FLAGS:
        return "true" if value else "false"
    return str(value)


class _RowParser:
    """Makes rows of the lines of one file. Equal texts become one object: the rows of a run have most of theirs in common."""

    def __init__(self, header: Sequence[str]) -> None:
        positions = {name: position for position, name in enumerate(header)}
        self._in_order = itemgetter(*[positions.get(name, len(header)) for name in COLUMNS])
        self._texts: dict[str, str] = {}

    def parse(self, fields: Sequence[str]) -> Row:
        """Return the row of one line. Raise `ValueError` for the first invalid field."""
        ordered = self._in_order([*fields, ""])  # the last one stands for columns that the file lacks
        values: list[Any] = list(map(self._texts.setdefault, ordered, ordered))
        for name, position in _NUMBER_POSITIONS:
            text = values[position]
            values[position] = number(name, text) if text else None
        for name, position in _INTEGER_POSITIONS:
            values[position] = integer(name, values[position])
        for name, position in _FLAG_POSITIONS:
            values[position] = flag(name, values[position])
        return Row(*values)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, fields) for each line of a CSV file that is not blank."""
    text = _read_text(path)
    if text and not text.endswith(("\n", "\r")):
        line = text.count("\n") + 1
        raise UserError(f"{path}:{line}: no line break ends the last line; add one, or was the file cut short?")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found = []
    line = 1
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for fields in reader:
            if fields:
                found.append((line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: not CSV: {error}; was the file cut short?") from None
    finally:
        csv.field_size_limit(limit)
    return found


def _read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without the byte order mark that spreadsheets write."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
