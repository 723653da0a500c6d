"""The layout that markdown, HTML and LaTeX share: a board as grids of plain text. Escapes nothing and knows no format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from harness.leaderboard.numerals import entry_text, format_number, with_spread
from harness.leaderboard.tables import Board, Column, Entry, Problem, Table


@dataclass(frozen=True)
class Cell:
    """A cell of a grid: its text, the status of the entry it shows, whether that is the best, or of a degenerate ensemble."""

    text: str
    status: str = ""
    best: bool = False
    degenerate: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of plain text; the first `labels` columns name things, the others hold numbers."""

    kind: str  # board, overview or comparison
    title: str
    caption: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def grids(board: Board) -> list[Grid]:
    """Return the tables of a board; where data sets share benchmark and architecture, one of all of them comes first."""
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in board.tables:
        groups.setdefault((table.benchmark, table.architecture), []).append(table)
    grids = []
    for tables in groups.values():
        if len(tables) > 1:
            grids.append(_overview(tables))
        for table in tables:
            grids.append(_board_grid(table))
            if table.comparisons:
                grids.append(_comparison_grid(table))
    return grids


def _board_grid(table: Table) -> Grid:
    header = ("method", *(_heading(column) for column in table.columns))
    rows = tuple(
        (Cell(method.name), *(_cell(entry, column) for entry, column in zip(entries, table.columns)))
        for method, entries in zip(table.methods, table.entries)
    )
    notes = _notes(table.problems)
    if any(entry.status == "nan" for entries in table.entries for entry in entries):
        notes.insert(0, "† not a number: a value among the seeds is nan or infinite")
    if any(entry.warnings for entries in table.entries for entry in entries):
        notes += [_DEGENERATE, *_notes(table.warnings)]
    title = f"{table.benchmark}: {table.dataset}, {table.architecture}"
    return Grid("board", title, _caption(table), header, 1, rows, tuple(notes))


_DEGENERATE = "‡ of a degenerate ensemble: the number says little and is never the best"
_DEGENERATE_ELSEWHERE = f"{_DEGENERATE}; the notes of the data set's own table say why"


def _overview(tables: Sequence[Table]) -> Grid:
    """Lay the first two metrics of several data sets side by side, methods across, as the paper's table 1 does."""
    methods = tuple(dict.fromkeys(method.name for table in tables for method in table.methods))
    rows = []
    for table in tables:
        for j, column in enumerate(table.columns[:2]):
            entries = {entry.method: entry for entry in (line[j] for line in table.entries)}
            cells = (_cell(entries[name], column) if name in entries else Cell("—", "absent") for name in methods)
            rows.append((Cell(table.dataset), Cell(_heading(column)), *cells))
    title = f"{tables[0].benchmark}: all data sets, {tables[0].architecture}"
    caption = "From the tables below, their first two metrics at most; best of a line in bold."
    notes = (_DEGENERATE_ELSEWHERE,) if any(cell.degenerate for row in rows for cell in row) else ()
    return Grid("overview", title, caption, ("dataset", "metric", *methods), 2, tuple(rows), notes)


def _comparison_grid(table: Table) -> Grid:
    units = {column.metric: column.unit for column in table.columns}
    rows, notes = [], []
    for item in table.comparisons:
        method, metric, unit = item.ours.method, item.ours.metric, units[item.ours.metric]
        where = ", table ".join(filter(None, (item.published.source, item.published.table)))
        ours = entry_text(item.ours, unit) + (f" (n = {item.ours.n})" if item.ours.status == "done" else "")
        theirs = with_spread(item.published.value, item.published.spread, unit)
        theirs += "" if item.published.n is None else f" (n = {item.published.n})"
        gap = "—" if item.difference is None else ("+" if item.difference > 0 else "") + format_number(item.difference, unit)
        rows.append(tuple(map(Cell, (method, metric, where, ours, theirs, gap, item.verdict))))
        if item.published.note:
            notes.append(f"published for {method}, {metric}: {item.published.note}")
    if any(item.ours.warnings for item in table.comparisons):
        notes.append(_DEGENERATE_ELSEWHERE)
    title = f"{table.benchmark}: {table.dataset}, {table.architecture}, beside published numbers"
    header = ("method", "metric", "published in", "ours", "published", "difference", "verdict")
    return Grid("comparison", title, _COMPARISON_CAPTION, header, 3, tuple(rows), tuple(notes))


_COMPARISON_CAPTION = (
    "Difference: ours − published. The two agree if they are at most 2·√(s² + s′²) apart, s and s′ the standard deviations "
    "over seeds of ours (ddof = 1) and of theirs. Where only one is known (one seed of ours has none), it alone counts and the "
    "verdict says so."
)


def _cell(entry: Entry, column: Column) -> Cell:
    return Cell(entry_text(entry, column.unit), entry.status, entry.best, bool(entry.warnings))


def _heading(column: Column) -> str:
    unit = {"percent": "%"}.get(column.unit, column.unit)
    arrow = {"higher": " ↑", "lower": " ↓"}.get(column.better, "")
    return column.metric + (f" ({unit})" if unit else "") + arrow


def _notes(problems: Iterable[Problem]) -> list[str]:
    """Return a line per problem; methods that share seeds, metrics and message share a line."""
    methods: dict[tuple[tuple[int, ...], tuple[str, ...], str], list[str]] = {}
    for problem in problems:
        methods.setdefault((problem.seeds, problem.metrics, problem.message), []).append(problem.method)
    notes = []
    for (seeds, metrics, message), names in methods.items():
        of = ", ".join([*names, *metrics])
        if len(names) > 1 and metrics:
            of = f"{', '.join(names)} ({', '.join(metrics)})"
        notes.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} of {of}: {message}")
    return notes


def _caption(table: Table) -> str:
    """Return the size of the ensembles, the seeds and what the numbers mean."""
    sizes: dict[int, list[str]] = {}
    for method in table.methods:
        sizes.setdefault(method.members, []).append(method.name)
    of = {m: f" ({', '.join(names)})" if len(sizes) > 1 else "" for m, names in sizes.items()}
    members = ", ".join(f"{m or 'unknown'}{of[m]}" for m in sizes)
    n, seeds = len(table.seeds), ", ".join(map(str, table.seeds))
    mean = f"Mean ± standard deviation over {n} seeds ({seeds}), ddof = 1." if n > 1 else f"One seed ({seeds}), so no spread."
    entries = [entry for line in table.entries for entry in line]
    best = " Best of a column in bold." if any(entry.best for entry in entries) else ""
    partial = f" (k/{n}): k of {n} seeds; such an entry is never the best." if any(0 < e.n < n for e in entries) else ""
    return f"M = {members}. {mean}{best}{partial}"


def closing(board: Board) -> str:
    """Return the line that ends a board, if any."""
    if not board.tables:
        return "No rows to show."
    n = board.unmatched
    return f"{n} published {'number has' if n == 1 else 'numbers have'} no counterpart on this board." if n else ""


def map_text(grid: Grid, escape: Callable[[str], str]) -> Grid:
    """Return the grid with all its text escaped."""
    rows = tuple(tuple(replace(cell, text=escape(cell.text)) for cell in row) for row in grid.rows)
    header, notes = tuple(map(escape, grid.header)), tuple(map(escape, grid.notes))
    return Grid(grid.kind, escape(grid.title), escape(grid.caption), header, grid.labels, rows, notes)
