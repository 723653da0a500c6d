"""A board as markdown, HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict

from harness.errors import UserError, did_you_mean
from harness.leaderboard.escaping import markdown
from harness.leaderboard.latex import latex_document
from harness.leaderboard.layout import Cell, Grid, closing, grids, map_text
from harness.leaderboard.numerals import entry_text
from harness.leaderboard.paper import PaperOptions, paper_grids
from harness.leaderboard.tables import Board, Comparison, Entry, Table
from harness.results.csv_file import csv_line
from harness.text import plain_line, printable_json

_HTML = """\
{%- macro letters(cell) %}{% if cell.letters %} <sup>{{ cell.letters }}</sup>{% endif %}{% endmacro %}
<div class="leaderboard">
{%- for grid in grids %}
<section>
<h3>{{ grid.title }}</h3>
<table class="{{ grid.kind }}">
<caption>{{ grid.caption }}</caption>
<thead><tr>
{%- for text in grid.header %}<th scope="col">
{%- for part in text.split("_") %}{{ "_" if not loop.first }}{% if not loop.first %}<wbr>{% endif %}
{{- part.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓") }}
{%- endfor %}</th>
{%- endfor %}</tr></thead>
<tbody>
{%- for row in grid.rows %}
<tr>
{%- for cell in row %}
{%- if loop.index <= grid.labels %}<th scope="row">{{ cell.text }}</th>
{%- elif cell.best %}<td class="{{ cell.status }} best"><strong>{{ cell.text }}</strong>{{ letters(cell) }}</td>
{%- elif cell.degenerate %}<td class="{{ cell.status }} degenerate">{{ cell.text }}{{ letters(cell) }}</td>
{%- else %}<td{% if cell.status %} class="{{ cell.status }}"{% endif %}>{{ cell.text }}{{ letters(cell) }}</td>
{%- endif %}
{%- endfor %}</tr>
{%- endfor %}
</tbody>
</table>
{%- if grid.notes %}
<ul class="notes">{% for note in grid.notes %}<li>{{ note }}</li>{% endfor %}</ul>
{%- endif %}
</section>
{%- endfor %}
{%- if closing %}
<p>{{ closing }}</p>
{%- endif %}
</div>
"""


def render(board: Board, format: str = "markdown", paper: PaperOptions | None = None) -> str:  # noqa: A002 - the option's name
    """Return a board as text.

    `format` is "markdown", "html" (a fragment), "latex" (with booktabs), "csv" (one line per entry) or "json". `paper` is for
    "latex" alone. Raise `UserError` for another format, and for `paper` beside another one.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'{did_you_mean(format, FORMATS)}")
    if format == "latex":
        options = paper or PaperOptions()
        text = latex_document(paper_grids(board, options), closing(board), options)
    elif paper is not None:
        raise UserError(f"format '{format}': caption, label, digits and the like are for format 'latex' alone")
    else:
        text = _RENDERERS[format](board)
    return text.encode("utf-8", "backslashreplace").decode()


def _markdown(board: Board) -> str:
    return markdown_document(grids(board), closing(board))


def markdown_document(grids: Iterable[Grid], ending: str) -> str:
    """Return grids in markdown: title, table, caption and notes of each, then the line that ends the board."""
    parts = []
    for grid in grids:
        escaped = map_text(grid, markdown)
        parts += [f"### {escaped.title}", markdown_grid(escaped), escaped.caption]
        if escaped.notes:
            parts.append("\n".join(f"- {note}" for note in escaped.notes))
    if ending:
        parts.append(ending)
    return "\n\n".join(parts) + "\n"


def emphasize(cell: Cell, template: str) -> str:
    """Return the text of a cell, formatted with the template if it is in the best group, and its letters."""
    text = cell.text
    if cell.best:
        text = template.format(text)
    return f"{text} {cell.letters}".rstrip()


def markdown_grid(grid: Grid) -> str:
    """Return the table of an escaped grid in markdown."""
    from tabulate import tabulate  # imported here, as jinja2 is below, so that `harness list` does not import it

    lines = []
    for row in grid.rows:
        lines.append([emphasize(cell, "**{}**") for cell in row])
    numbers = len(grid.header) - grid.labels
    align = ["left"] * grid.labels + ["right"] * numbers
    return tabulate(lines, grid.header, tablefmt="pipe", colalign=align, disable_numparse=True)


def _html(board: Board) -> str:
    return html_fragment(grids(board), closing(board))


def html_fragment(grids: Iterable[Grid], ending: str) -> str:
    """Return grids as an HTML fragment, which ends with the line `ending`."""
    import jinja2

    template = jinja2.Environment(autoescape=True, keep_trailing_newline=True).from_string(_HTML)
    return template.render(grids=[map_text(grid, plain_line) for grid in grids], closing=ending)


_CSV_COLUMNS = (
    "benchmark",
    "dataset",
    "architecture",
    "method",
    "metric",
    "mean",
    "std",
    "n",
    "expected",
    "best",
    "status",
    "warning",
)
_CSV_REFERENCE_COLUMNS = ("source", "table", "published", "published_spread", "published_n", "difference", "verdict")


def _csv(board: Board) -> str:
    """Return one line per entry; with a reference, one per published number of the entry."""
    header: list[object] = [*_CSV_COLUMNS]
    if board.unmatched is not None:
        header += _CSV_REFERENCE_COLUMNS
    lines = [header]
    for table in board.tables:
        for entries in table.entries:
            for entry in entries:
                lines += _csv_lines(table, entry, len(header))
    return "".join(csv_line(map(csv_field, line)) for line in lines)


def _csv_lines(table: Table, entry: Entry, width: int) -> list[list[object]]:
    """Return the lines of an entry, each `width` fields long."""
    own: list[object] = [
        table.benchmark,
        table.dataset,
        table.architecture,
        entry.method,
        entry.metric,
        entry.mean,
        entry.std,
        entry.n,
        entry.expected,
        entry.best,
        entry.status,
        "; ".join(entry.warnings),
    ]
    lines = [own + _reference_fields(item) for item in table.comparisons if item.ours is entry]
    return lines or [own + [""] * (width - len(own))]


def _reference_fields(item: Comparison) -> list[object]:
    published = item.published
    number = [published.value, published.spread, published.n]
    return [published.source, published.table, *number, item.difference, item.verdict]


def _json(board: Board) -> str:
    """Return tables of methods of entries. A number that JSON lacks is null; `text` is the entry as other formats print it."""
    content: dict[str, object] = {"tables": [_json_table(table) for table in board.tables]}
    if board.unmatched is not None:
        content["unmatched"] = board.unmatched
    return json_document(content)


def _json_table(table: Table) -> dict[str, object]:
    methods = []
    for method, entries in zip(table.methods, table.entries):
        shown = []
        for entry, column in zip(entries, table.columns):
            shown.append({**asdict(entry), "text": entry_text(entry, column.unit)})
        methods.append({**asdict(method), "entries": shown})
    content: dict[str, object] = {
        "benchmark": table.benchmark,
        "dataset": table.dataset,
        "architecture": table.architecture,
        "seeds": table.seeds,
        "ddof": 1,
        "columns": [asdict(column) for column in table.columns],
        "methods": methods,
        "problems": [asdict(problem) for problem in table.problems],
        "warnings": [asdict(warning) for warning in table.warnings],
    }
    if table.comparisons:
        content["comparisons"] = [_json_comparison(item) for item in table.comparisons]
    return content


def _json_comparison(item: Comparison) -> dict[str, object]:
    return {
        "method": item.ours.method,
        "metric": item.ours.metric,
        "ours": item.ours.mean,
        "published": asdict(item.published),
        "difference": item.difference,
        "verdict": item.verdict,
    }


_RENDERERS: dict[str, Callable[[Board], str]] = {"markdown": _markdown, "html": _html, "csv": _csv, "json": _json}
FORMATS = (*_RENDERERS, "latex")


def csv_field(value: object) -> str:
    """Return a field of the CSV form; a number reads back exactly."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    return str(value)


def json_document(content: dict[str, object]) -> str:
    """Return JSON for people and programs: indented, with printable characters, and null for a number that JSON lacks."""
    return printable_json(json.dumps(_without_infinities(content), indent=2, ensure_ascii=False)) + "\n"


def _without_infinities(value: object) -> object:
    """Return a JSON value in which infinite numbers and NaN, which JSON lacks, are null."""
    if isinstance(value, dict):
        return {name: _without_infinities(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
