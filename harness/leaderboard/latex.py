"""Grids as LaTeX tables with booktabs, within the text width of `article`. The source is ASCII."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.leaderboard.fitting import PAGE_WIDTH, TEXT_WIDTH, Block, Fitted, FittedColumn, FontSize, count_lines, fit
from harness.leaderboard.layout import Cell, Grid
from harness.leaderboard.paper import PaperOptions
from harness.leaderboard.tex import ascii_source, breakable, latex, shortened, wrapped

_MOST_NOTE_LINES = 8  # of notes within a float
_LONGEST_NAME = 550.0  # points: about 100 letters, the most that a benchmark file's names can have


def latex_document(grids: Iterable[Grid], ending: str, options: PaperOptions) -> str:
    """Return the floats of all grids as LaTeX source, and a comment with the line that ends the board."""
    lines = ["% needs \\usepackage{booktabs}"]
    for number, grid in enumerate(grids, 1):
        label = options.label
        if label and number > 1:
            label += f"-{number}"
        lines += _floats(grid, options, label)
    if ending:
        lines.append(f"% {latex(ending)}")
    return "\n".join(lines).rstrip("\n") + "\n"


def _floats(grid: Grid, options: PaperOptions, label: str) -> list[str]:
    """Return the lines of a grid's `table` environments, with an empty line after each."""
    environment = "table*" if options.wide else "table"
    grid = _with_short_names(grid)
    fitted = fit(grid, PAGE_WIDTH if options.wide else TEXT_WIDTH)
    caption = ascii_source(options.caption) or breakable(f"{grid.title}. {grid.caption}")
    lines = []
    notes = _notes(grid.notes)
    are_short = sum(count_lines(note, TEXT_WIDTH) for note in grid.notes) <= _MOST_NOTE_LINES
    for number, blocks in enumerate(fitted.floats):
        is_last = number == len(fitted.floats) - 1
        lines += [
            f"\\begin{{{environment}}}",
            "\\centering",
            "\\sloppy",
            f"\\caption{{{caption}{' (continued)' if number else ''}}}",
            *([f"\\label{{{label}}}"] if label and not number else []),
            "\\smallskip",
            *_size_lines(fitted),
            *_blocks(grid, blocks, fitted.size),
            *(notes if is_last and are_short else []),
            f"\\end{{{environment}}}",
            "",
        ]
    if notes and not are_short:  # text may continue on the next page, unlike a float
        lines += [*notes, ""]
    return lines


def _with_short_names(grid: Grid) -> Grid:
    """Return the grid with the middle of extremely long heads and cells left out: their lines would not fit on a page."""
    header = tuple(shortened(text, _LONGEST_NAME) for text in grid.header)
    rows = []
    for row in grid.rows:
        rows.append(tuple(replace(cell, text=shortened(cell.text, _LONGEST_NAME)) for cell in row))
    return replace(grid, header=header, rows=tuple(rows))


def _size_lines(fitted: Fitted) -> list[str]:
    lines = [fitted.size.command] if fitted.size.command else []
    if fitted.size.gap != 6:  # LaTeX's own
        lines.append(f"\\setlength{{\\tabcolsep}}{{{fitted.size.gap:g}pt}}")
    return lines


def _blocks(grid: Grid, blocks: Sequence[Block], size: FontSize) -> list[str]:
    """Return the lines of tabulars that stand below each other."""
    lines: list[str] = []
    for block in blocks:
        if lines:
            lines.append("\\par\\medskip")
        lines += _tabular(grid, block, size)
    return lines


def _tabular(grid: Grid, block: Block, size: FontSize) -> list[str]:
    specification = "".join(_column_type(grid, column, size) for column in block.columns)
    body = []
    for number in block.rows:
        if number in grid.rules and number != block.rows[0]:
            body.append("\\midrule")
        row = grid.rows[number]
        body.append(_line(_cell_source(row[column.index], column) for column in block.columns))
    return [
        f"\\begin{{tabular}}{{@{{}}{specification}@{{}}}}",
        "\\toprule",
        *_head(grid, block),
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
    ]


def _column_type(grid: Grid, column: FittedColumn, size: FontSize) -> str:
    if column.wrapped:
        return f"p{{{column.width * size.scale:.1f}pt}}"
    return "l" if column.index < grid.labels else "r"


def _head(grid: Grid, block: Block) -> list[str]:
    """Return the lines of the head; wrapped heads end on the last one."""
    heads = [wrapped(grid.header[column.index], column.width) for column in block.columns]
    height = max(map(len, heads))
    lines = []
    for number in range(height):
        texts = []
        for head in heads:
            position = number - (height - len(head))
            texts.append(latex(head[position]) if position >= 0 else "")
        lines.append(_line(texts))
    return lines


def _cell_source(cell: Cell, column: FittedColumn) -> str:
    if column.wrapped:
        return f"{{\\raggedright {_emphasized(cell, breakable(cell.text))}\\par}}"
    return _emphasized(cell, latex(cell.text))


def _emphasized(cell: Cell, source: str) -> str:
    if cell.best:
        source = f"\\textbf{{{source}}}"
    if cell.letters:
        source += f"\\textsuperscript{{{latex(cell.letters)}}}"
    return source


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"\\par\\smallskip{{\\footnotesize\\raggedright {breakable(note)}\\par}}" for note in notes]


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
