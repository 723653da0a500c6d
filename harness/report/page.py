"""One or several runs as one self-contained HTML page: board, differences, figures and the provenance of the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.comparison import TableComparison
from harness.comparison.formats import comparison_grids
from harness.leaderboard import Board
from harness.leaderboard.layout import Grid, closing, grids
from harness.report.figures import DrawnFigure, DrawnFigures
from harness.report.provenance import benchmark_of, count, provenance_of
from harness.report.run import Run
from harness.report.scripts import content_security_policy, page_scripts
from harness.text import plain_line

_MAX_RECORDS = 400  # of a figure's data on the page; the CSV file holds longer data
_MAX_DIFFERENCES = 500  # lines of a table of differences on the page


@dataclass(frozen=True)
class _ShownFigure:
    """What the page shows of a figure: its picture, its texts, and its data as lines of text. `omitted` lines are left out."""

    name: str
    svg: str
    title: str
    caption: str
    columns: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    omitted: int


def make_page(run: Run, board: Board, drawn: DrawnFigures, comparisons: Sequence[TableComparison] = ()) -> str:
    """Return the page of a run, or of several joined by `read_runs`. The same files give the same bytes."""
    import jinja2  # imported here so that `harness list` does not import it

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "assets")
    environment = jinja2.Environment(autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["plain"] = plain_line
    differences, omitted = _differences(comparisons)
    text = environment.get_template("page.html").render(
        name=_name(run),
        description=str(benchmark_of(run).get("description") or ""),
        summary=_summary(board),
        incomplete=run.incomplete,
        board=grids(board),
        closing=closing(board),
        differences=differences,
        sections=_sections(drawn),
        remarks=[*omitted, *drawn.problems, *_remarks(run)],
        runs=provenance_of(run),
        policy=content_security_policy(),
        scripts=page_scripts(),
    )
    return text.encode("utf-8", "backslashreplace").decode()


def _sections(drawn: DrawnFigures) -> dict[str, list[_ShownFigure]]:
    """Return what the page shows of each figure, by section."""
    sections: dict[str, list[_ShownFigure]] = {}
    for figure in drawn.figures:
        sections.setdefault(figure.section, []).append(_shown(figure))
    return sections


def _shown(figure: DrawnFigure) -> _ShownFigure:
    plot = figure.plot
    records = []
    for record in plot.records[:_MAX_RECORDS]:
        records.append(tuple(_field(value) for value in record))
    columns = tuple(map(str, plot.columns))
    omitted = len(plot.records) - len(records)
    return _ShownFigure(figure.name, figure.svg, plot.title, plot.caption, columns, tuple(records), omitted)


def _field(value: object) -> str:
    """Return a field of a figure's data: a number with six significant digits, another value as text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _differences(comparisons: Sequence[TableComparison]) -> tuple[list[Grid], list[str]]:
    """Return the tables of differences with intervals, and a remark about each that is too long for the page."""
    shown = []
    remarks = []
    for grid in comparison_grids([table for table in comparisons if _has_intervals(table)]):
        if len(grid.rows) <= _MAX_DIFFERENCES:
            shown.append(grid)
        else:
            remarks.append(f"{grid.title}: {len(grid.rows)} lines are too many for this page; `harness compare` prints them.")
    return shown, remarks


def _has_intervals(table: TableComparison) -> bool:
    """Return whether any difference of a table has an interval: that takes two seeds."""
    for metric in table.metrics:
        for item in metric.differences:
            if item.difference is not None and item.difference.interval() is not None:
                return True
    return False


def _name(run: Run) -> str:
    """Return the benchmarks of the rows, or else that of `run.json`."""
    named = dict.fromkeys(run.rows["benchmark"])
    return ", ".join(map(str, named)) or str(benchmark_of(run).get("name") or "no rows")


def _summary(board: Board) -> str:
    """Return a line about what the board compares."""
    if not board.tables:
        return ""
    datasets: dict[str, None] = {}
    architectures: dict[str, None] = {}
    methods: set[str] = set()
    seeds: set[int] = set()
    sizes: set[int] = set()
    for table in board.tables:
        datasets[table.dataset] = None
        architectures[table.architecture] = None
        seeds.update(table.seeds)
        for method in table.methods:
            methods.add(method.name)
            sizes.add(method.members)
    parts = [", ".join(datasets), ", ".join(architectures), count(len(methods), "method"), count(len(seeds), "seed")]
    sizes.discard(0)  # unknown
    if sizes:
        parts.append(f"ensembles of {' or '.join(map(str, sorted(sizes)))}")
    return " · ".join(parts)


def _remarks(run: Run) -> list[str]:
    """Return what the page lacks because an `events.jsonl` is missing or holds other lines than events."""
    remarks = []
    for name, part in (run.named_parts or {"": run}).items():
        start = f"{name}: " if name else ""
        remarks += [start + remark for remark in _remarks_about(part)]
    return remarks


def _remarks_about(run: Run) -> list[str]:
    if run.log is None:
        return ["There is no events.jsonl in the folder, so there are no training curves."]
    remarks = []
    if not run.log.trainings:
        remarks.append("Nothing was trained for this run that its events tell of: no training curves.")
    if run.log.unreadable:
        verb = "is" if run.log.unreadable == 1 else "are"
        remarks.append(f"{count(run.log.unreadable, 'line')} of events.jsonl {verb} no event and left out.")
    return remarks
