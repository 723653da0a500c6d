"""Rows, boards of them and cells of rendered boards, for the tests of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.leaderboard import Board, Entry, board, render
from harness.results.rows import Row, frame

PAPER = Path(__file__).parents[2] / "benchmarks" / "reference" / "paper.csv"
ACCURACY, CELL = "ensemble_accuracy", "ab" * 32


def row(method: str = "deep", seed: int = 0, value: float | None = 94.0, metric: str = ACCURACY, **changes: Any) -> Row:
    """Return a row. Without a value its status is `failed`, unless `changes` give another."""
    status = changes.pop("status", "done" if value is not None else "failed")
    fields: dict[str, Any] = {
        "benchmark": "paper",
        "dataset": "cifar10",
        "architecture": "resnet20",
        "unit": "percent",
        "better": "higher",
        "members": 5,
        "metric_version": f"{metric}@1",
        "options": "{}",
        "cell": CELL,
        "key": CELL[::-1],
    }
    fields |= changes
    return Row(**fields, method=method, seed=seed, metric=metric, value=value, status=status)


def seed_rows(method: str, *values: float | None, **changes: Any) -> list[Row]:
    """Return one row per value, for seeds 0, 1, …"""
    return [row(method, seed, value, **changes) for seed, value in enumerate(values)]


def board_of(rows: list[Row], metrics: str = "main", *, letters: bool = False) -> Board:
    """Return the board of one run."""
    return board({"runs/a": frame(rows)}, metrics, letters=letters)


def entry_of(board: Board, method: str, metric: str = ACCURACY) -> Entry:
    """Return the entry of a method and a metric in the first table of a board."""
    for line in board.tables[0].entries:
        for entry in line:
            if (entry.method, entry.metric) == (method, metric):
                return entry
    raise AssertionError(f"no entry of {method}, {metric}")


def markdown_cells(board: Board, table: int = 0) -> list[list[str]]:
    """Return the cells of one markdown table, header first, padding stripped."""
    tables: list[list[list[str]]] = []
    in_table = False
    for line in render(board).split("\n"):
        is_row = line.startswith("|")
        if is_row and not in_table:
            tables.append([])
        if is_row and not line.startswith("|:"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split(" |")])
        in_table = is_row
    return tables[table]


THREE_METHODS = [
    *seed_rows("deep", 94.0, 95.0, 96.0),
    *seed_rows("swe", 90.0, 92.0, 94.0),
    *seed_rows("permuted", 95.0, 95.001, 94.999),
]
"""Means 95, 92, 95; sample standard deviations 1, 2, 0.001."""

MEASURED = seed_rows("deep", 94.2, 94.4, 94.6)
"""Mean 94.4, standard deviation 0.2: with a published ± 0.15 the limit of agreement is 2·0.25 = 0.5."""
