"""A board as grids of plain text: the layout of markdown, HTML and LaTeX. Escapes nothing and knows no format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from harness.leaderboard.groups import LEVEL, MIN_SEEDS
from harness.leaderboard.numerals import entry_text, format_number, with_spread
from harness.leaderboard.tables import Board, Column, Comparison, Entry, Problem, Table


@dataclass(frozen=True)
class Cell:
    """A cell of a grid: its text, and of the entry that it shows the status, whether it is in the best group or degenerate.

    `letters` are those of the entry's groups.
    """

    text: str
    status: str = ""
    best: bool = False
    degenerate: bool = False
    letters: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of plain text. The first `labels` columns hold names, the others numbers."""

    kind: str  # board, overview or comparison
    title: str
    caption: str
    header: tuple[str, ...]
    labels: int
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    rules: tuple[int, ...] = ()  # the rows above which there is a line


def groups(board: Board) -> list[list[Table]]:
    """Return the tables of a board, grouped by benchmark and architecture."""
    found: dict[tuple[str, str], list[Table]] = {}
    for table in board.tables:
        found.setdefault((table.benchmark, table.architecture), []).append(table)
    return list(found.values())


def grids(board: Board) -> list[Grid]:
    """Return the grids of a board. An overview precedes the tables of data sets that share benchmark and architecture."""
    grids = []
    for tables in groups(board):
        if len(tables) > 1:
            grids.append(_overview(tables))
        for table in tables:
            grids.append(board_grid(table))
            if table.comparisons:
                grids.append(comparison_grid(table))
    return grids


def board_grid(table: Table, *, std: bool = True) -> Grid:
    """Return the grid of one table: methods down, metrics across. Without `std`, its caption has no standard deviations."""
    header = ["method"] + [_heading(column) for column in table.columns]
    rows = []
    is_nan, is_degenerate = False, False
    for method, entries in zip(table.methods, table.entries):
        cells = [Cell(method.name)]
        for entry, column in zip(entries, table.columns):
            cells.append(_cell(entry, column))
            is_nan = is_nan or entry.status == "nan"
            is_degenerate = is_degenerate or bool(entry.warnings)
        rows.append(tuple(cells))
    notes = _notes(table.problems)
    if is_nan:
        notes.insert(0, "† not a number: a value among the seeds is nan or infinite")
    if is_degenerate:
        notes += [_DEGENERATE, *_notes(table.warnings)]
    title = f"{table.benchmark}: {table.dataset}, {table.architecture}"
    return Grid("board", title, _caption(table, std), tuple(header), 1, tuple(rows), tuple(notes))


_DEGENERATE = "‡ of a degenerate ensemble: the number says little and is never the best"
_DEGENERATE_ELSEWHERE = f"{_DEGENERATE}; the notes of the data set's own table say why"


def _overview(tables: Sequence[Table]) -> Grid:
    """Return the first two metrics of several data sets, with methods as columns, as in table 1 of the paper."""
    methods: dict[str, None] = {}
    for table in tables:
        methods.update(dict.fromkeys(method.name for method in table.methods))
    rows = []
    is_degenerate = False
    for table in tables:
        for index, column in enumerate(table.columns[:2]):
            entries = {line[index].method: line[index] for line in table.entries}
            cells = [Cell(table.dataset), Cell(_heading(column))]
            for name in methods:
                cell = Cell("—", "absent")
                if name in entries:
                    cell = _cell(entries[name], column)
                cells.append(cell)
                is_degenerate = is_degenerate or cell.degenerate
            rows.append(tuple(cells))
    title = f"{tables[0].benchmark}: all data sets, {tables[0].architecture}"
    caption = "From the tables below, their first two metrics at most; marked as there."
    notes = (_DEGENERATE_ELSEWHERE,) if is_degenerate else ()
    return Grid("overview", title, caption, ("dataset", "metric", *methods), 2, tuple(rows), notes)


def comparison_grid(table: Table) -> Grid:
    """Return the grid of a table's numbers beside published ones."""
    units = {column.metric: column.unit for column in table.columns}
    rows = []
    notes = []
    for item in table.comparisons:
        rows.append(tuple(map(Cell, _comparison_texts(item, units[item.ours.metric]))))
        if item.published.note:
            notes.append(f"published for {item.ours.method}, {item.ours.metric}: {item.published.note}")
    if any(item.ours.warnings for item in table.comparisons):
        notes.append(_DEGENERATE_ELSEWHERE)
    title = f"{table.benchmark}: {table.dataset}, {table.architecture}, beside published numbers"
    header = ("method", "metric", "published in", "ours", "published", "difference", "verdict")
    return Grid("comparison", title, _COMPARISON_CAPTION, header, 3, tuple(rows), tuple(notes))


def _comparison_texts(item: Comparison, unit: str) -> tuple[str, ...]:
    """Return the texts of a comparison's cells."""
    source = ", table ".join(name for name in (item.published.source, item.published.table) if name)
    ours = entry_text(item.ours, unit)
    if item.ours.status == "done":
        ours += f" (n = {item.ours.n})"
    published = with_spread(item.published.value, item.published.spread, unit)
    if item.published.n is not None:
        published += f" (n = {item.published.n})"
    difference = "—"
    if item.difference is not None:
        sign = "+" if item.difference > 0 else ""
        difference = sign + format_number(item.difference, unit)
    return item.ours.method, item.ours.metric, source, ours, published, difference, item.verdict


_COMPARISON_CAPTION = (
    "Difference: ours − published. The two agree if they are at most 2·√(s² + s′²) apart, s and s′ the standard deviations "
    "over seeds of ours (ddof = 1) and of theirs. Where only one is known (one seed of ours has none), it alone counts and the "
    "verdict says so."
)


def _cell(entry: Entry, column: Column) -> Cell:
    return Cell(entry_text(entry, column.unit), entry.status, entry.best, bool(entry.warnings), entry.letters)


def _heading(column: Column) -> str:
    return described(column.metric, column)


def described(name: str, column: Column) -> str:
    """Return a name of a metric with its unit and an arrow in its direction."""
    heading = name
    if column.unit:
        unit = "%" if column.unit == "percent" else column.unit
        heading += f" ({unit})"
    return heading + {"higher": " ↑", "lower": " ↓"}.get(column.better, "")


def _notes(problems: Iterable[Problem]) -> list[str]:
    """Return one line per problem. Methods that share seeds, metrics and message share a line."""
    methods: dict[tuple[tuple[int, ...], tuple[str, ...], str], list[str]] = {}
    for problem in problems:
        methods.setdefault((problem.seeds, problem.metrics, problem.message), []).append(problem.method)
    notes = []
    for (seeds, metrics, message), names in methods.items():
        subject = ", ".join([*names, *metrics])
        if len(names) > 1 and metrics:
            subject = f"{', '.join(names)} ({', '.join(metrics)})"
        noun = "seeds" if len(seeds) > 1 else "seed"
        notes.append(f"{noun} {', '.join(map(str, seeds))} of {subject}: {message}")
    return notes


def _caption(table: Table, std: bool) -> str:
    """Return the sizes of the ensembles, the seeds and the meaning of the numbers."""
    seeds = ", ".join(map(str, table.seeds))
    total = len(table.seeds)
    caption = f"M = {_sizes(table)}. One seed ({seeds}), so no spread."
    if total > 1:
        numbers = "Mean ± standard deviation (ddof = 1)" if std else "Mean"
        caption = f"M = {_sizes(table)}. {numbers} over {total} seeds ({seeds})."
    entries = [entry for line in table.entries for entry in line]
    caption += _marks(table, entries)
    if any(0 < entry.n < total for entry in entries):
        caption += f" (k/{total}): k of {total} seeds; such an entry is never the best."
    return caption


def _marks(table: Table, entries: Sequence[Entry]) -> str:
    """Return what bold and letters mean, or why there are none."""
    if len(table.methods) < 2:
        return ""
    if len(table.seeds) < MIN_SEEDS:
        return f" No best is marked below {MIN_SEEDS} seeds."
    text = ""
    if any(entry.best for entry in entries):
        text = f" Bold: not told apart from the best of its column; {_TESTS}."
    if any(entry.letters for entry in entries):
        text += " Letters: entries of a column that share none are told apart"
        text += "." if " Bold" in text else f"; {_TESTS}."
    return text


_TESTS = f"paired t-tests over seeds on these test images, Holm over all pairs of a column, {100 * LEVEL:.0f} %"


def _sizes(table: Table) -> str:
    """Return M, or each M with its methods: `5 (deep), 3 (swe)`."""
    methods: dict[int, list[str]] = {}
    for method in table.methods:
        methods.setdefault(method.members, []).append(method.name)
    sizes = []
    for members, names in methods.items():
        size = str(members) if members else "unknown"
        if len(methods) > 1:
            size += f" ({', '.join(names)})"
        sizes.append(size)
    return ", ".join(sizes)


def closing(board: Board) -> str:
    """Return the line that ends a board, if it needs one."""
    if not board.tables:
        return "No rows to show."
    if not board.unmatched:
        return ""
    subject = "number has" if board.unmatched == 1 else "numbers have"
    return f"{board.unmatched} published {subject} no counterpart on this board."


def map_text(grid: Grid, escape: Callable[[str], str]) -> Grid:
    """Return the grid with all its text escaped."""
    rows = []
    for row in grid.rows:
        rows.append(tuple(replace(cell, text=escape(cell.text)) for cell in row))
    return replace(
        grid,
        title=escape(grid.title),
        caption=escape(grid.caption),
        header=tuple(map(escape, grid.header)),
        rows=tuple(rows),
        notes=tuple(map(escape, grid.notes)),
    )
