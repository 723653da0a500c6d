"""A board as text: markdown, HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict

from harness.errors import UserError, did_you_mean
from harness.leaderboard.escaping import latex, markdown
from harness.leaderboard.layout import closing, grids, map_text
from harness.leaderboard.numerals import entry_text
from harness.leaderboard.tables import Board, Comparison, Table
from harness.results.rows import csv_line
from harness.text import plain_line

_HTML = """\
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
{%- elif cell.best %}<td class="{{ cell.status }} best"><strong>{{ cell.text }}</strong></td>
{%- elif cell.degenerate %}<td class="{{ cell.status }} degenerate">{{ cell.text }}</td>
{%- else %}<td{% if cell.status %} class="{{ cell.status }}"{% endif %}>{{ cell.text }}</td>
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


def render(board: Board, format: str = "markdown") -> str:  # noqa: A002 - the option's name
    """Return the board as text: "markdown", "html" (a fragment), "latex" (booktabs), "csv" (tidy) or "json"."""
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'{did_you_mean(format, FORMATS)}")
    return FORMATS[format](board).encode("utf-8", "backslashreplace").decode()


def _markdown(board: Board) -> str:
    from tabulate import tabulate  # here as jinja2 is below: whoever only lists plugins does not pay for them

    parts = []
    for grid in grids(board):
        align = ["left"] * grid.labels + ["right"] * (len(grid.header) - grid.labels)
        rows = [[f"**{markdown(cell.text)}**" if cell.best else markdown(cell.text) for cell in row] for row in grid.rows]
        header = [markdown(text) for text in grid.header]
        parts += [f"### {markdown(grid.title)}", tabulate(rows, header, tablefmt="pipe", colalign=align, disable_numparse=True)]
        parts.append(markdown(grid.caption))
        if grid.notes:
            parts.append("\n".join(f"- {markdown(note)}" for note in grid.notes))
    return "\n\n".join([*parts, *filter(None, [closing(board)])]) + "\n"


def _html(board: Board) -> str:
    import jinja2

    template = jinja2.Environment(autoescape=True, keep_trailing_newline=True).from_string(_HTML)
    return template.render(grids=[map_text(grid, plain_line) for grid in grids(board)], closing=closing(board))


def _latex(board: Board) -> str:
    parts = ["% needs \\usepackage{booktabs}"]
    for grid in (map_text(grid, latex) for grid in grids(board)):
        lines = [[f"\\textbf{{{cell.text}}}" if cell.best else cell.text for cell in row] for row in grid.rows]
        parts += [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{grid.title}. {grid.caption}}}",
            f"\\begin{{tabular}}{{{'l' * grid.labels}{'r' * (len(grid.header) - grid.labels)}}}",
            "\\toprule",
            f"{' & '.join(grid.header)} \\\\",
            "\\midrule",
            *(f"{' & '.join(line)} \\\\" for line in lines),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\footnotesize {note}" for note in grid.notes),
            "\\end{table}",
            "",
        ]
    return "\n".join([*parts, *(f"% {line}" for line in [closing(board)] if line)]).rstrip("\n") + "\n"


def _csv(board: Board) -> str:
    """One line an entry; with a reference, one for each published number beside it."""
    names = [
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
    ]
    more = ["source", "table", "published", "published_spread", "published_n", "difference", "verdict"]
    lines: list[list[object]] = [[*names, *(more if board.unmatched is not None else [])]]
    for table in board.tables:
        place = (table.benchmark, table.dataset, table.architecture)
        for e in (entry for line in table.entries for entry in line):
            own: list[object] = [
                *place,
                e.method,
                e.metric,
                e.mean,
                e.std,
                e.n,
                e.expected,
                e.best,
                e.status,
                "; ".join(e.warnings),
            ]
            beside = [_beside(c) for c in table.comparisons if c.ours is e]
            lines += [own + more for more in beside] or [own + [""] * (len(lines[0]) - len(own))]
    return "".join(csv_line(map(_field, line)) for line in lines)


def _beside(c: Comparison) -> list[object]:
    p = c.published
    return [p.source, p.table, p.value, p.spread, p.n, c.difference, c.verdict]


def _json(board: Board) -> str:
    """Tables of methods of entries. What JSON cannot say of a number is null; `text` is what the other formats print."""
    reference = {} if board.unmatched is None else {"unmatched": board.unmatched}
    return json.dumps(_finite({"tables": [*map(_json_table, board.tables)], **reference}), indent=2, ensure_ascii=False) + "\n"


def _json_table(table: Table) -> dict[str, object]:
    methods = [
        {**asdict(method), "entries": [{**asdict(e), "text": entry_text(e, c.unit)} for e, c in zip(entries, table.columns)]}
        for method, entries in zip(table.methods, table.entries)
    ]
    rest = {"columns": [*map(asdict, table.columns)], "methods": methods}
    rest |= {"problems": [*map(asdict, table.problems)], "warnings": [*map(asdict, table.warnings)]}
    beside = [
        {"method": c.ours.method, "metric": c.ours.metric, "ours": c.ours.mean, "published": asdict(c.published)}
        | {"difference": c.difference, "verdict": c.verdict}
        for c in table.comparisons
    ]
    place = {"benchmark": table.benchmark, "dataset": table.dataset, "architecture": table.architecture}
    return {**place, "seeds": table.seeds, "ddof": 1, **rest, **({"comparisons": beside} if beside else {})}


FORMATS: dict[str, Callable[[Board], str]] = {"markdown": _markdown, "html": _html, "csv": _csv, "json": _json, "latex": _latex}


def _field(value: object) -> str:
    """Return a field of the CSV form, numbers so that they read back exactly."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _finite(value: object) -> object:
    """Return a JSON value with null for each number that JSON has no word for."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
