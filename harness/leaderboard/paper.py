"""A board as grids for a paper: short titles, and one grid for several data sets. Plain text, as in `layout`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.leaderboard.layout import Cell, Grid, board_grid, comparison_grid, described, groups
from harness.leaderboard.numerals import entry_text
from harness.leaderboard.tables import Board, Column, Entry, Table

MOST_DIGITS = 6
_LABEL = re.compile(r"[A-Za-z0-9:._-]+")


@dataclass(frozen=True)
class PaperOptions:
    """How tables of a paper look. Raise `UserError` for a label or a number of digits that cannot be used.

    `caption` is LaTeX source that replaces the default caption; `label` is a LaTeX label. `std` shows standard deviations.
    `digits` are the decimals of percentages; other numbers have two more significant digits than that. `wide` makes tables that
    span both columns of a page.
    """

    caption: str = ""
    label: str = ""
    std: bool = True
    digits: int = 2
    wide: bool = False

    def __post_init__(self) -> None:
        if self.label and not _LABEL.fullmatch(self.label):
            raise UserError(f"label '{self.label}': a LaTeX label has letters, digits, colons, dots, hyphens and underscores")
        if not 0 <= self.digits <= MOST_DIGITS:
            raise UserError(f"digits: {self.digits}; from 0 to {MOST_DIGITS}")


def paper_grids(board: Board, options: PaperOptions) -> list[Grid]:
    """Return a grid per benchmark and architecture, and one for each table's comparison with published numbers.

    For one data set, methods are down and metrics across. For several, methods are across, data sets and metrics down, as in
    table 1 of the paper.
    """
    grids = []
    for tables in groups(board):
        if len(tables) > 1:
            grids.append(_data_sets_grid(tables, options))
        else:
            grids.append(_single_grid(tables[0], options))
        grids += [comparison_grid(table) for table in tables if table.comparisons]
    return grids


def title_of(column: Column) -> str:
    """Return the title of a metric; one that its class does not declare is made of its name."""
    if column.title:
        return column.title
    words = column.metric.replace("_", " ")
    if len(words) == 1:
        return words  # a symbol
    return words[:1].upper() + words[1:]


def symbol_of(column: Column) -> str:
    """Return the symbol of a metric, or else its title."""
    return column.symbol or title_of(column)


def _single_grid(table: Table, options: PaperOptions) -> Grid:
    grid = board_grid(table, std=options.std)
    header = ["Method"] + [described(title_of(column), column) for column in table.columns]
    rows = []
    for method, entries in zip(table.methods, table.entries):
        cells = [_cell(entry, column, options) for entry, column in zip(entries, table.columns)]
        rows.append((Cell(method.name), *cells))
    return Grid("board", grid.title, grid.caption, tuple(header), 1, tuple(rows), grid.notes)


def _data_sets_grid(tables: Sequence[Table], options: PaperOptions) -> Grid:
    methods: dict[str, None] = {}
    for table in tables:
        methods.update(dict.fromkeys(method.name for method in table.methods))
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for table in tables:
        if rows:
            rules.append(len(rows))
        for index, column in enumerate(table.columns):
            entries = {line[index].method: line[index] for line in table.entries}
            cells = []
            for name in methods:
                cells.append(_cell(entries[name], column, options) if name in entries else Cell("—", "absent"))
            dataset = table.dataset if index == 0 else ""
            rows.append((Cell(dataset), Cell(described(symbol_of(column), column)), *cells))
    title = f"{tables[0].benchmark}: {tables[0].architecture}"
    caption = f"{_shared_captions(tables, options.std)}{_legend(tables)}"
    header = ("Data set", "Metric", *methods)
    return Grid("overview", title, caption, header, 2, tuple(rows), _shared_notes(tables), tuple(rules))


def _cell(entry: Entry, column: Column, options: PaperOptions) -> Cell:
    text = entry_text(entry, column.unit, std=options.std, digits=options.digits)
    return Cell(text, entry.status, entry.best, bool(entry.warnings), entry.letters)


def _shared_captions(tables: Sequence[Table], std: bool) -> str:
    """Return the captions of all tables, each once; if they differ, with the data sets they belong to."""
    datasets: dict[str, list[str]] = {}
    for table in tables:
        datasets.setdefault(board_grid(table, std=std).caption, []).append(table.dataset)
    if len(datasets) == 1:
        return next(iter(datasets))
    return " ".join(f"{', '.join(names)}: {caption}" for caption, names in datasets.items())


def _legend(tables: Sequence[Table]) -> str:
    """Return what the symbols mean."""
    meanings: dict[str, str] = {}
    for table in tables:
        for column in table.columns:
            if symbol_of(column) != title_of(column):
                meanings[symbol_of(column)] = title_of(column)
    if not meanings:
        return ""
    listed = "; ".join(f"{symbol}: {title[:1].lower()}{title[1:]}" for symbol, title in meanings.items())
    return f" {listed}."


def _shared_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Return the notes of all tables, each once, with the data sets they belong to."""
    datasets: dict[str, list[str]] = {}
    for table in tables:
        for note in board_grid(table).notes:
            datasets.setdefault(note, []).append(table.dataset)
    notes = []
    for note, names in datasets.items():
        is_mark = note[0] in "†‡"
        notes.append(note if is_mark else f"{', '.join(names)}: {note}")
    return tuple(notes)
