"""All figures of a run: which there are, and their files. What each shows is a room of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.files import write_atomically
from harness.leaderboard import Board, Table
from harness.report import drawing
from harness.report.accuracy_connectivity import accuracy_connectivity
from harness.report.drawing import Figure
from harness.report.fork_epochs import fork_epochs
from harness.report.pairwise_curves import METRIC, pairwise_curves
from harness.report.run import Run, entries, mapping
from harness.report.training_curves import training_curves
from harness.report.variants import variants
from harness.results import Row, rows_of


def make_figures(run: Run, board: Board) -> list[Figure]:
    """Return the figures that a run has data for, section by section; no two have the same name."""
    plugins = _plugins(run)
    curves = run.rows[run.rows["metric"].str.fullmatch(METRIC.pattern)]
    segments = rows_of(curves)
    found: list[Figure | None] = []
    for table in board.tables:
        same = variants(table, plugins)
        found.append(pairwise_curves(table, same, _of(table, segments)))
        found.append(accuracy_connectivity(table, same))
        found.append(fork_epochs(table, same))
    found += training_curves(run)
    present = [figure for figure in found if figure is not None]
    order = list(dict.fromkeys(figure.section for figure in present))
    return _named(sorted(present, key=lambda figure: order.index(figure.section)))


def write_figures(figures: Iterable[Figure], folder: str | Path) -> list[Path]:
    """Write every figure as PNG, SVG and CSV into a folder, made if it is not there; return the files."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}; name another folder") from None
    written = []
    for figure in figures:
        for ending, content in (("png", drawing.png(figure)), ("svg", drawing.svg(figure)), ("csv", drawing.csv(figure))):
            path = folder / f"{figure.name}.{ending}"
            write_atomically(path, content)
            written.append(path)
    return written


def _plugins(run: Run) -> dict[str, str]:
    """Return the plugin that each method's label stands for, as far as `run.json` tells."""
    pairs = entries(mapping(mapping(run.facts).get("benchmark")).get("pairs"))
    methods = (method for pair in pairs for method in entries(pair.get("methods")))
    return {str(method.get("label")): str(method["name"]) for method in methods if "name" in method}


def _of(table: Table, rows: Iterable[Row]) -> list[Row]:
    place = table.benchmark, table.dataset, table.architecture
    return [row for row in rows if (row.benchmark, row.dataset, row.architecture) == place]


def _named(figures: Iterable[Figure]) -> list[Figure]:
    """Return figures under names of what they show and of what, fit for files; a number tells apart what is left alike."""
    taken: set[str] = set()
    found = []
    for figure in figures:
        stem = f"{figure.name}-{re.sub(r'[^A-Za-z0-9_]+', '-', figure.section).strip('-')}"[:100]
        names = (stem if n == 1 else f"{stem}-{n}" for n in range(1, len(taken) + 2))
        name = next(name for name in names if name.lower() not in taken)  # as file systems without case see it
        taken.add(name.lower())
        found.append(replace(figure, name=name))
    return found
