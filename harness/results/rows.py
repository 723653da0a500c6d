"""Rows of results, one measured number each, in `results.csv` and in a DataFrame. Knows nothing of how they were measured.

Importing this module does not import pandas; only `frame` needs it. `docs/board.md` describes the columns.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import UserError
from harness.files import write_atomically
from harness.results.csv_file import csv_line, flag, integer, number, read_lines

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["done", "failed", "missing"]
Better = Literal["higher", "lower", ""]

STATUSES: tuple[str, ...] = get_args(Status)
DIRECTIONS: tuple[str, ...] = get_args(Better)

FILE_NAME = "results.csv"

_KEY = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("value", "standard_error")
_INTEGERS = ("seed", "members")
_FLAGS = ("main",)


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
    header, lines = read_lines(file, NEEDED_COLUMNS)
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
