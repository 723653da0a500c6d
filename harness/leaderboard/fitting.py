"""Fits a grid to the text width of a page: a smaller font, then wrapped texts and further blocks of columns and rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.layout import Cell, Grid
from harness.leaderboard.tex import WIDEST_PIECE, longest_part, width, wrapped

TEXT_WIDTH = 345.0
"""Points: `article`'s text width on letter and A4 paper, in 10 pt."""
PAGE_WIDTH = 452.0
"""Points: the text width of both columns of a two-column `article` on A4 paper; it is wider on letter paper."""

_SLACK = 2.0  # points, for rounding
_LABEL_SHARE = 0.55  # of the width, at most, for all columns of names, once texts are wrapped
_MOST_LINES = 42  # of a float on a page of `article`, in its normal font
_FEWEST_LINES = 12  # of a float's tabulars, however long its caption is
_RULE_LINES = 2  # what the rules and the space of a tabular take
_LETTER_FACTOR = 0.75  # of superscripts


@dataclass(frozen=True)
class FontSize:
    """A size of LaTeX's: its command, its widths relative to 10 pt, and the space on both sides of a column in points."""

    command: str
    scale: float
    gap: float


_SIZES = (
    FontSize("", 1.0, 6.0),
    FontSize("\\small", 0.93, 5.0),
    FontSize("\\footnotesize", 0.855, 4.0),
    FontSize("\\scriptsize", 0.815, 3.0),
)
_SIZE_OF_BLOCKS = _SIZES[2]  # several blocks in a readable size are better than one in the smallest


@dataclass(frozen=True)
class FittedColumn:
    """A column of a grid: its index, its width in points of 10 pt, and whether its texts are wrapped to that width."""

    index: int
    width: float
    wrapped: bool = False


@dataclass(frozen=True)
class Block:
    """Columns and rows of a grid that form one tabular; the columns of names come first in every block."""

    columns: tuple[FittedColumn, ...]
    rows: range


@dataclass(frozen=True)
class Fitted:
    """A grid's font size and its floats, each a list of blocks that stand below each other."""

    size: FontSize
    floats: tuple[tuple[Block, ...], ...]


def fit(grid: Grid, available: float) -> Fitted:
    """Return how a grid fits into `available` points, in the largest font that does not need several blocks of columns."""
    available -= _SLACK
    lines = max(_MOST_LINES - count_lines(f"{grid.title} {grid.caption}", available), _FEWEST_LINES)
    one_line = [FittedColumn(index, max(_natural_width(grid, index), width(text))) for index, text in enumerate(grid.header)]
    if _total(one_line, _SIZES[0]) <= available:
        return Fitted(_SIZES[0], _floats(grid, [one_line], lines))
    columns = [FittedColumn(index, _natural_width(grid, index)) for index in range(len(grid.header))]
    for size in _SIZES:
        if _total(columns, size) <= available:
            return Fitted(size, _floats(grid, [columns], lines))
    size = _SIZE_OF_BLOCKS
    return Fitted(size, _floats(grid, _column_blocks(grid, columns, size, available), lines))


def cell_width(cell: Cell) -> float:
    """Return the width of a cell's text, with its letters, in points of 10 pt."""
    return width(cell.text, bold=cell.best) + _LETTER_FACTOR * width(cell.letters)


def _natural_width(grid: Grid, index: int) -> float:
    """Return the width of a column whose head may be wrapped, but not its cells."""
    cells = [cell_width(row[index]) for row in grid.rows]
    return max([longest_part(grid.header[index]), *cells])


def _total(columns: Sequence[FittedColumn], size: FontSize) -> float:
    """Return the width of a tabular without space at its sides."""
    return size.scale * sum(column.width for column in columns) + 2 * size.gap * (len(columns) - 1)


def _column_blocks(grid: Grid, columns: Sequence[FittedColumn], size: FontSize, available: float) -> list[list[FittedColumn]]:
    """Return blocks that fit: all names, and as many of the other columns as there is room for, at least one."""
    most = _LABEL_SHARE * available / max(grid.labels, 1) / size.scale - 2 * size.gap
    labels = [_limited(column, most) for column in columns[: grid.labels]]
    room = available - _total(labels, size) - 2 * size.gap
    others = [_limited(column, room / size.scale) for column in columns[grid.labels :]]
    blocks = _filled(labels, others, size, available, len(others))
    even = math.ceil(len(others) / max(len(blocks), 1))  # 4 and 3 columns look better than 6 and 1
    return _filled(labels, others, size, available, even) or [labels]


def _filled(
    labels: list[FittedColumn], others: list[FittedColumn], size: FontSize, available: float, most: int
) -> list[list[FittedColumn]]:
    """Return blocks of the names and at most `most` other columns."""
    blocks: list[list[FittedColumn]] = []
    for column in others:
        is_full = not blocks or len(blocks[-1]) - len(labels) == most
        if is_full or _total([*blocks[-1], column], size) > available:
            blocks.append([*labels])
        blocks[-1].append(column)
    return blocks


def _limited(column: FittedColumn, most: float) -> FittedColumn:
    if column.width <= most:
        return column
    return FittedColumn(column.index, most, wrapped=True)


def _floats(grid: Grid, blocks: Sequence[Sequence[FittedColumn]], lines: int) -> tuple[tuple[Block, ...], ...]:
    """Return blocks in floats of at most `lines` lines each, or of one row."""
    floats: list[list[Block]] = []
    free = 0
    for part in _row_parts(grid, blocks, lines):
        for columns in blocks:
            height = _head_height(grid, columns) + sum(_row_height(grid.rows[number], columns) for number in part)
            if not floats or height > free:
                floats.append([])
                free = lines
            floats[-1].append(Block(tuple(columns), part))
            free -= height
    return tuple(map(tuple, floats))


def _row_parts(grid: Grid, blocks: Sequence[Sequence[FittedColumn]], lines: int) -> list[range]:
    """Return ranges of rows, each of at most `lines` lines in every block, or of one row."""
    parts = []
    head = max(_head_height(grid, columns) for columns in blocks)
    start, height = 0, head
    for number, row in enumerate(grid.rows):
        added = max(_row_height(row, columns) for columns in blocks)
        if number > start and height + added > lines:
            parts.append(range(start, number))
            start, height = number, head
        height += added
    return [*parts, range(start, len(grid.rows))]


def _head_height(grid: Grid, columns: Sequence[FittedColumn]) -> int:
    """Return the lines of a block's head and rules."""
    return _RULE_LINES + max(len(wrapped(grid.header[column.index], column.width)) for column in columns)


def _row_height(row: Sequence[Cell], columns: Sequence[FittedColumn]) -> int:
    """Return the lines of a row, estimated from above."""
    return max(count_lines(row[column.index].text, column.width) if column.wrapped else 1 for column in columns)


def count_lines(text: str, available: float) -> int:
    """Return the lines that a text takes in a width, both in points of 10 pt: an estimate from above."""
    usable = max(available - WIDEST_PIECE / 2, WIDEST_PIECE)
    return 1 + math.floor(width(text) / usable)
