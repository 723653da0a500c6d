"""The figures of a run: those of plugins for each table of the board, and the training curves.

A figure that raises an error, or returns something other than plots, is left out, and the report names it.
"""

from __future__ import annotations

import contextlib
import copy
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.api.figure import Figure, FigureData, Plot
from harness.errors import PluginError
from harness.leaderboard import Board, Table
from harness.report import rendering
from harness.report.run import Run, builders, place, rows_of_table, trainings_by_place
from harness.report.training_curves import training_curves
from harness.text import describe_error, single_line

_LONGEST_NAME = 100


@dataclass(frozen=True)
class DrawnFigure:
    """A plot that was drawn for the page.

    `name` is unique and the prefix of its files and HTML ids, `label` is its figure in messages, `section` the part of the
    page that shows it, `svg` an element for the page, and `csv` its data.
    """

    name: str
    label: str
    section: str
    plot: Plot
    svg: str
    csv: str


@dataclass(frozen=True)
class DrawnFigures:
    """The figures of a report, grouped by section, and one line for each figure that could not be drawn."""

    figures: tuple[DrawnFigure, ...] = ()
    problems: tuple[str, ...] = ()


class _SectionPlot(NamedTuple):
    """A plot that is not drawn yet, with its figure's name and label and its section of the page."""

    figure: str
    label: str
    section: str
    plot: Plot


def make_figures(run: Run, board: Board, plugins: Mapping[str, Callable[[], Figure]]) -> DrawnFigures:
    """Return the figures that the run has data for, under unique names.

    `plugins` maps labels for messages to figure classes, in the order of the figures on the page.
    """
    problems: list[str] = []
    figures: dict[str, Figure] = {}
    for label, make in plugins.items():
        with _note_failure(label, problems):
            figures[label] = make()
    plots: list[_SectionPlot] = []
    trainings = trainings_by_place(run)
    for table in board.tables:
        for label, figure in figures.items():
            with _note_failure(label, problems):
                plots += _plots(label, figure, _data(run, table, trainings))
    for section, known in trainings.items():
        plots.append(_SectionPlot("training_curves", "the training curves", section, training_curves(known)))
    drawn = _draw(_by_section(plots), problems)
    return DrawnFigures(tuple(drawn), tuple(dict.fromkeys(problems)))


def _data(run: Run, table: Table, trainings: Mapping[str, tuple]) -> FigureData:
    """Return copies of a table's data, so that a figure that changes them does not affect the others."""
    facts, folder = run.facts_of(table)
    return FigureData(
        table=table,
        rows=rows_of_table(run.rows, table),
        builders=builders(run),
        trainings=trainings.get(place(table.dataset, table.architecture), ()),
        facts=copy.deepcopy(dict(facts)),
        folder=folder,
    )


def _plots(label: str, figure: Figure, data: FigureData) -> list[_SectionPlot]:
    """Return a figure's plots of one table. Raise `PluginError` for anything but plots."""
    found = figure.draw(data)
    if not isinstance(found, Iterable):
        raise PluginError(f"draw returned {type(found).__name__}; an iterable of harness.Plot is expected")
    plots = []
    for plot in found:
        if not isinstance(plot, Plot):
            raise PluginError(f"draw gave {type(plot).__name__}; only harness.Plot is expected")
        plots.append(_SectionPlot(figure.name, label, place(data.table.dataset, data.table.architecture), plot))
    return plots


def _by_section(plots: Iterable[_SectionPlot]) -> list[_SectionPlot]:
    """Return plots grouped by section, in the order of each section's first plot."""
    sections: dict[str, list[_SectionPlot]] = {}
    for plot in plots:
        sections.setdefault(plot.section, []).append(plot)
    ordered = []
    for group in sections.values():
        ordered += group
    return ordered


def _draw(plots: Iterable[_SectionPlot], problems: list[str]) -> list[DrawnFigure]:
    """Return the plots that can be drawn."""
    names: set[str] = set()
    drawn = []
    for item in plots:
        name = _unique_name(item, names)
        with _note_failure(item.label, problems):
            svg = rendering.inline_svg(item.plot, name)
            csv = rendering.csv(item.plot)
            drawn.append(DrawnFigure(name, item.label, item.section, item.plot, svg, csv))
            names.add(name.lower())
    return drawn


def _unique_name(item: _SectionPlot, taken: set[str]) -> str:
    """Return a name for files and HTML ids. A number distinguishes equal names, also for file systems that ignore case."""
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") for text in (item.figure, item.section)]
    stem = "-".join(words)[:_LONGEST_NAME]
    if not re.match(r"[A-Za-z_]", stem):  # an id may not begin with a digit
        stem = f"figure-{stem}"
    name = stem
    number = 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


@contextlib.contextmanager
def _note_failure(label: str, problems: list[str]) -> Iterator[None]:
    """Append a line to `problems` if a figure raises anything, `SystemExit` included. Redirect its output to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except PluginError as error:
        problems.append(f"{label} is left out: {single_line(str(error))}")
    except BaseException as error:  # a plugin may raise anything
        problems.append(f"{label} is left out: {describe_error(error)}")
