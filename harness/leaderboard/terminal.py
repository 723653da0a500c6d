"""A board fitted to a terminal: the markdown where it fits, else headers are wrapped and columns put into several tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len, chop_cells

from harness.leaderboard.escaping import markdown
from harness.leaderboard.formats import emphasize, markdown_document, markdown_grid
from harness.leaderboard.layout import Cell, Grid, closing, grids, map_text
from harness.leaderboard.tables import Board

_MIN_WIDTH = 20  # columns; a narrower terminal wraps the lines itself
_PIECE = re.compile(r"[^ _/-]*[ _/-]?")  # what is not broken: up to the end of a word, or of a part of a name


def render_fitted(board: Board, width: int) -> str:
    """Return a board as markdown if no line is wider than `width` columns, else in a form close to it that fits."""
    return fit_grids(grids(board), closing(board), width)


def fit_grids(grids: Sequence[Grid], ending: str, width: int) -> str:
    """Return grids as markdown if no line is wider than `width` columns, else in a form close to it that fits.

    The line `ending` comes last.
    """
    width = max(width, _MIN_WIDTH)
    text = markdown_document(grids, ending)
    if all(cell_len(line) <= width for line in text.splitlines()):
        return text
    parts = []
    for grid in grids:
        parts += _fitted_grid(map_text(grid, markdown), width)
    if ending:
        parts.append(_wrapped(ending, width))
    return "\n\n".join(parts) + "\n"


def _fitted_grid(grid: Grid, width: int) -> list[str]:
    """Return title, tables, caption and notes of a grid."""
    parts = [_wrapped(f"### {grid.title}", width)]
    if all(cell_len(line) <= width for line in markdown_grid(grid).splitlines()):
        parts.append(markdown_grid(grid))
    else:
        parts += ["\n".join(_table(part, widths)) for part, widths in _split(grid, width)]
    parts.append(_wrapped(grid.caption, width))
    if grid.notes:
        parts.append("\n".join(_wrapped(f"- {note}", width) for note in grid.notes))
    return parts


def _split(grid: Grid, width: int) -> list[tuple[Grid, list[int]]]:
    """Return grids with all names and as many of the columns of numbers as fit, at least one; with the columns' widths."""
    widths = _widths(grid, width)
    names = list(range(grid.labels))
    free = width - 1 - sum(widths[column] + 3 for column in names)
    groups: list[list[int]] = []
    left = 0
    for column in range(grid.labels, len(grid.header)):
        needed = widths[column] + 3
        if not groups or needed > left:
            groups.append([])
            left = free
        groups[-1].append(column)
        left -= needed
    parts = []
    for group in groups or [[]]:
        chosen = names + group
        parts.append((_columns(grid, chosen), [widths[column] for column in chosen]))
    return parts


def _columns(grid: Grid, chosen: Sequence[int]) -> Grid:
    header = tuple(grid.header[column] for column in chosen)
    rows = [tuple(row[column] for column in chosen) for row in grid.rows]
    return replace(grid, header=header, rows=tuple(rows))


def _widths(grid: Grid, width: int) -> list[int]:
    """Return the width of each column: headers are wrapped, cells only if names and a column of numbers do not fit else."""
    widths = []
    for column, heading in enumerate(grid.header):
        cells = [cell_len(_text(row[column])) for row in grid.rows]
        widths.append(max(1, *cells, *(cell_len(piece.rstrip()) for piece in _PIECE.findall(heading))))
    numbers = widths[grid.labels :]
    space = width - 1 - 3 * (grid.labels + bool(numbers))
    most = max(numbers, default=0)
    for column in range(grid.labels):
        widths[column] = min(widths[column], max(4, (space - most) // grid.labels))
    most = max(1, space - sum(widths[: grid.labels]))
    return widths[: grid.labels] + [min(number, most) for number in numbers]


def _table(grid: Grid, widths: Sequence[int]) -> list[str]:
    """Return the lines of a table."""
    lines = _row_lines(grid.header, widths, grid.labels)
    rules = []
    for column, size in enumerate(widths):
        rules.append(":" + "-" * (size + 1) if column < grid.labels else "-" * (size + 1) + ":")
    lines.append(f"|{'|'.join(rules)}|")
    for row in grid.rows:
        lines += _row_lines([_text(cell) for cell in row], widths, grid.labels)
    return lines


def _row_lines(texts: Sequence[str], widths: Sequence[int], labels: int) -> list[str]:
    """Return the lines of a row: names to the left, numbers to the right."""
    folded = [_fold(text, size) for text, size in zip(texts, widths)]
    lines = []
    for number in range(max(map(len, folded))):
        cells = []
        for column, (pieces, size) in enumerate(zip(folded, widths)):
            text = pieces[number] if number < len(pieces) else ""
            filling = " " * (size - cell_len(text))
            cells.append(text + filling if column < labels else filling + text)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _fold(text: str, width: int) -> list[str]:
    """Return a text as lines of at most `width` columns, broken after spaces and parts of names where possible."""
    lines = [""]
    for piece in _PIECE.findall(text):
        if cell_len((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
        elif cell_len(piece.rstrip()) <= width:
            lines.append(piece)
        else:
            lines += chop_cells(piece, width)
    return [line.rstrip() for line in lines if line.strip()] or [""]


def _wrapped(text: str, width: int) -> str:
    return "\n".join(_fold(text, width))


def _text(cell: Cell) -> str:
    return emphasize(cell, "**{}**")
