"""The results of a run as tables: one line per cell, and the board."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import leaderboard

if TYPE_CHECKING:
    import pandas as pd

_CELL = ["dataset", "architecture", "method", "seed"]


@dataclass(frozen=True)
class LoggedTable:
    """A table: the names of its columns, and its lines. A field without a value is None."""

    columns: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class CellValues:
    """The main values of one cell by metric, as far as they were measured. A value may be NaN."""

    dataset: str
    architecture: str
    method: str
    seed: int
    values: dict[str, float]


def cell_values(rows: pd.DataFrame) -> list[CellValues]:
    """Return the values of each cell, in the order of the rows. Details, such as those of pairs of members, are left out."""
    done = rows[rows["main"] & (rows["status"] == "done")]
    cells: dict[tuple[str, str, str, int], CellValues] = {}
    for dataset, architecture, method, seed, metric, value in done[[*_CELL, "metric", "value"]].itertuples(index=False):
        key = (dataset, architecture, method, int(seed))
        cell = cells.setdefault(key, CellValues(*key, values={}))
        cell.values[metric] = float(value)
    return list(cells.values())


def values_table(cells: list[CellValues]) -> LoggedTable:
    """Return a table with one line per cell and one column per metric. NaN, which tables of loggers may refuse, is None."""
    metrics: dict[str, None] = {}
    for cell in cells:
        metrics.update(dict.fromkeys(cell.values))
    lines = []
    for cell in cells:
        values = [_finite(cell.values.get(metric)) for metric in metrics]
        lines.append((cell.dataset, cell.architecture, cell.method, cell.seed, *values))
    return LoggedTable((*_CELL, *metrics), tuple(lines))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def board_table(board: leaderboard.Board) -> LoggedTable:
    """Return the board as one table, with the texts that the board prints: `95.79 ± 0.20`."""
    tables = json.loads(leaderboard.render(board, "json"))["tables"]
    metrics: dict[str, None] = {}
    for table in tables:
        metrics.update(dict.fromkeys(column["metric"] for column in table["columns"]))
    lines = []
    for table in tables:
        for method in table["methods"]:
            texts = {entry["metric"]: entry["text"] for entry in method["entries"]}
            shown = [texts.get(metric) for metric in metrics]
            lines.append((table["dataset"], table["architecture"], method["name"], *shown))
    return LoggedTable(("dataset", "architecture", "method", *metrics), tuple(lines))
