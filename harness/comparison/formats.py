"""Comparisons of methods as markdown, HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.comparison.values import MethodDifference, MetricComparison, TableComparison
from harness.errors import UserError, did_you_mean
from harness.leaderboard.formats import csv_field, html_fragment, json_document, markdown_document
from harness.leaderboard.groups import MIN_SEEDS
from harness.leaderboard.latex import latex_document
from harness.leaderboard.layout import Cell, Grid, described
from harness.leaderboard.numerals import format_number
from harness.leaderboard.paper import PaperOptions
from harness.leaderboard.tables import Column
from harness.results.csv_file import csv_line

_Comparisons = Sequence[TableComparison]

_NOTHING = "Nothing to compare: there is one method."
_CAPTION = (
    "Difference: method − {baseline}, paired by seed and, where the run kept them, by test image. Intervals: Student's t, not "
    "adjusted for several comparisons. p: adjusted by Holm over the {count} of a metric."
)
_MARGIN_CAPTION = " Equivalent: the 90 % interval lies within the margin (yes), outside (no), or neither (undecided)."
_SEEDS_CAPTION = (
    " More seeds: how many would settle an undecided comparison with a probability of 80 %, if difference and variances are as "
    "estimated; 'never': the difference is too small, or test images vary too much."
)
_FEW_SEEDS = (
    f"Fewer than {MIN_SEEDS} seeds: the intervals rest on the assumption that differences are normal, which so few seeds "
    "cannot show."
)
_DEGENERATE = "‡ of a degenerate ensemble: the number says little"


def render_comparisons(comparisons: _Comparisons, format: str = "markdown") -> str:  # noqa: A002 - the option's name
    """Return comparisons as text: "markdown", "html" (a fragment), "latex", "csv" or "json".

    Raise `UserError` for another format.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'{did_you_mean(format, FORMATS)}")
    return FORMATS[format](comparisons).encode("utf-8", "backslashreplace").decode()


def comparison_grids(comparisons: _Comparisons) -> list[Grid]:
    """Return a grid per table: a line per metric and method."""
    return [_grid(table) for table in comparisons if any(metric.differences for metric in table.metrics)]


def ending(comparisons: _Comparisons) -> str:
    """Return the line that stands in place of tables if there is nothing to compare."""
    return "" if comparison_grids(comparisons) else _NOTHING


def _grid(table: TableComparison) -> Grid:
    has_margins = any(metric.margin is not None for metric in table.metrics)
    header = ["metric", "method", "difference", "95 % interval", "p (Holm)"]
    if has_margins:
        header.append("equivalent")
    rows: list[tuple[Cell, ...]] = []
    rules = []
    for metric in table.metrics:
        if rows:
            rules.append(len(rows))
        for item in metric.differences:
            texts = _texts(item, metric, has_margins)
            rows.append(tuple(Cell(text, degenerate=bool(item.warnings)) for text in texts))
    title = f"{table.benchmark}: {table.dataset}, {table.architecture}, differences from {table.baseline}"
    header += ["seeds × images", "more seeds"]
    return Grid("differences", title, _caption(table, has_margins), tuple(header), 2, tuple(rows), _notes(table), tuple(rules))


def _texts(item: MethodDifference, metric: MetricComparison, has_margins: bool) -> list[str]:
    """Return the texts of a line."""
    column = metric.column
    texts = [described(column.metric, column), item.method + (" ‡" if item.warnings else "")]
    texts += [_difference_text(item, column), _interval_text(item, column), _p_text(item.p_value)]
    if has_margins:
        texts.append(_equivalence_text(item, metric))
    texts += [_size_text(item), _more_text(item)]
    return texts


def _difference_text(item: MethodDifference, column: Column) -> str:
    if item.difference is None:
        return "—"
    return _signed(item.difference.value, column, _scale(item))


def _interval_text(item: MethodDifference, column: Column) -> str:
    interval = None if item.difference is None else item.difference.interval()
    if interval is None:
        return "—"
    low, high = (_signed(end, column, _scale(item)) for end in interval)
    return f"{low} to {high}"


def _scale(item: MethodDifference) -> float:
    """Return the largest number of a line: all are printed with its decimals."""
    if item.difference is None:
        return 0.0
    interval = item.difference.interval() or (0.0, 0.0)
    return max(abs(item.difference.value), *map(abs, interval))


def _signed(value: float, column: Column, scale: float) -> str:
    text = format_number(value, column.unit, scale)
    return f"+{text}" if value > 0 and text.strip("0.") else text


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return "—"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _equivalence_text(item: MethodDifference, metric: MetricComparison) -> str:
    if metric.margin is None or item.equivalence is None:
        return "—"
    return f"{item.equivalence} (±{metric.margin:g})"


def _size_text(item: MethodDifference) -> str:
    if item.difference is None:
        return "0"
    images = item.difference.images
    return f"{item.difference.seeds} × {images}" if images is not None else f"{item.difference.seeds}, seeds alone"


def _more_text(item: MethodDifference) -> str:
    if item.difference is None or item.difference.squares is None or item.is_settled:
        return "—"
    return "never" if item.more_seeds is None else f"+{item.more_seeds}"


def _caption(table: TableComparison, has_margins: bool) -> str:
    count = max(len(metric.differences) for metric in table.metrics)
    words = "one comparison" if count == 1 else f"{count} comparisons"
    margin = _MARGIN_CAPTION if has_margins else ""
    return _CAPTION.format(baseline=table.baseline, count=words) + margin + _SEEDS_CAPTION


def _notes(table: TableComparison) -> tuple[str, ...]:
    notes = list(table.notes)
    warnings: dict[str, list[str]] = {}
    has_few = False
    for metric in table.metrics:
        for item in metric.differences:
            has_few = has_few or (item.difference is not None and item.difference.seeds < MIN_SEEDS)
            for warning in item.warnings:
                warnings.setdefault(warning, []).append(item.method)
    if has_few:
        notes.insert(0, _FEW_SEEDS)
    if warnings:
        notes.append(_DEGENERATE)
    for warning, methods in warnings.items():
        notes.append(f"{', '.join(dict.fromkeys(methods))} or {table.baseline}: {warning}")
    return tuple(notes)


_CSV_COLUMNS = (
    *("benchmark", "dataset", "architecture", "baseline", "metric", "unit", "method", "difference", "standard_error"),
    *("degrees", "low", "high", "p_holm", "seeds", "images", "margin", "equivalent", "settled", "more_seeds", "warning"),
)


def _records(comparisons: _Comparisons) -> list[dict[str, object]]:
    """Return one record per table, metric and method, with all digits."""
    records = []
    for table in comparisons:
        for metric in table.metrics:
            for item in metric.differences:
                places = (table.benchmark, table.dataset, table.architecture, table.baseline)
                fields = (*places, metric.column.metric, metric.column.unit, item.method, *_numbers(item, metric))
                records.append(dict(zip(_CSV_COLUMNS, fields, strict=True)))
    return records


def _numbers(item: MethodDifference, metric: MetricComparison) -> list[object]:
    judgment = [metric.margin, item.equivalence, item.is_settled, item.more_seeds, "; ".join(item.warnings)]
    found = item.difference
    if found is None:
        return [None, None, None, None, None, None, 0, None, *judgment]
    low, high = found.interval() or (None, None)
    return [found.value, found.standard_error, found.degrees, low, high, item.p_value, found.seeds, found.images, *judgment]


def _csv(comparisons: _Comparisons) -> str:
    lines = [csv_line(_CSV_COLUMNS)]
    for record in _records(comparisons):
        lines.append(csv_line(csv_field(value) for value in record.values()))
    return "".join(lines)


def _json(comparisons: _Comparisons) -> str:
    content = {"level": 0.95, "comparisons": _records(comparisons), "notes": [list(table.notes) for table in comparisons]}
    return json_document(content)


FORMATS: dict[str, Callable[[_Comparisons], str]] = {
    "markdown": lambda comparisons: markdown_document(comparison_grids(comparisons), ending(comparisons)),
    "html": lambda comparisons: html_fragment(comparison_grids(comparisons), ending(comparisons)),
    "csv": _csv,
    "json": _json,
    "latex": lambda comparisons: latex_document(comparison_grids(comparisons), ending(comparisons), PaperOptions()),
}
