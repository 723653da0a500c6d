"""All figures of a run: those that plugins draw, table by table, and the training curves.

A plugin that raises, or returns something else than plots, is left out and named.
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
from harness.report.run import Run, builders, place, trainings_by_place
from harness.report.training_curves import training_curves
from harness.text import describe_error, single_line

_LONGEST_NAME = 100


@dataclass(frozen=True)
class DrawnFigure:
    """A plot on the page: its name, which its files and ids begin with, the section it stands in, and what is shown.

    `label` is what messages call the figure. `svg` is an element for the page.
    """

    name: str
    label: str
    section: str
    plot: Plot
    svg: str
    csv: str


@dataclass(frozen=True)
class DrawnFigures:
    """The figures of a report, section by section, and one line for each figure that could not be drawn."""

    figures: tuple[DrawnFigure, ...] = ()
    problems: tuple[str, ...] = ()


class _Undrawn(NamedTuple):
    """A plot that a figure returned: the figure's name, and how messages call it."""

    figure: str
    label: str
    section: str
    plot: Plot


def make_figures(run: Run, board: Board, plugins: Mapping[str, Callable[[], Figure]]) -> DrawnFigures:
    """Return the figures that a run has data for; no two have the same name.

    `plugins` are figure classes in the order in which a table's figures stand on the page, each under what messages call it.
    """
    problems: list[str] = []
    figures: dict[str, Figure] = {}
    for label, make in plugins.items():
        with _named_if_it_fails(label, problems):
            figures[label] = make()
    plots: list[_Undrawn] = []
    trainings = trainings_by_place(run)
    for table in board.tables:
        for label, figure in figures.items():
            with _named_if_it_fails(label, problems):
                plots += _plots(label, figure, _data(run, table, trainings))
    for section, known in trainings.items():
        plots.append(_Undrawn("training_curves", "the training curves", section, training_curves(known)))
    drawn = _drawn(_by_section(plots), problems)
    return DrawnFigures(tuple(drawn), tuple(dict.fromkeys(problems)))


def _data(run: Run, table: Table, trainings: Mapping[str, tuple]) -> FigureData:
    """Return a table's data, in copies: what one figure does to them, no other sees."""
    rows = run.rows
    here = (
        (rows["benchmark"] == table.benchmark)
        & (rows["dataset"] == table.dataset)
        & (rows["architecture"] == table.architecture)
    )
    return FigureData(
        table=table,
        rows=rows[here].reset_index(drop=True),
        builders=builders(run),
        trainings=trainings.get(place(table.dataset, table.architecture), ()),
        facts=copy.deepcopy(dict(run.facts or {})),
        folder=run.folder,
    )


def _plots(label: str, figure: Figure, data: FigureData) -> list[_Undrawn]:
    """Return a figure's plots of one table, checked."""
    found = figure.draw(data)
    if not isinstance(found, Iterable):
        raise PluginError(f"draw returned {type(found).__name__}; an iterable of harness.Plot is expected")
    plots = []
    for plot in found:
        if not isinstance(plot, Plot):
            raise PluginError(f"draw gave {type(plot).__name__}; only harness.Plot is expected")
        plots.append(_Undrawn(figure.name, label, place(data.table.dataset, data.table.architecture), plot))
    return plots


def _by_section(plots: Iterable[_Undrawn]) -> list[_Undrawn]:
    """Return plots section by section, sections in order of their first plots."""
    sections: dict[str, list[_Undrawn]] = {}
    for plot in plots:
        sections.setdefault(plot.section, []).append(plot)
    return [plot for group in sections.values() for plot in group]


def _drawn(plots: Iterable[_Undrawn], problems: list[str]) -> list[DrawnFigure]:
    """Draw every plot; leave out those that cannot be drawn."""
    names: set[str] = set()
    drawn = []
    for undrawn in plots:
        name = _free_name(undrawn, names)
        with _named_if_it_fails(undrawn.label, problems):
            svg, csv = rendering.inline_svg(undrawn.plot, name), rendering.csv(undrawn.plot)
            drawn.append(DrawnFigure(name, undrawn.label, undrawn.section, undrawn.plot, svg, csv))
            names.add(name.lower())
    return drawn


def _free_name(undrawn: _Undrawn, taken: set[str]) -> str:
    """Return a name fit for files and ids; a number tells apart what is left alike, as file systems without case see it."""
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") for text in (undrawn.figure, undrawn.section)]
    stem = "-".join(words)[:_LONGEST_NAME]
    if not re.match(r"[A-Za-z_]", stem):  # the name of an id may not begin with a digit
        stem = f"figure-{stem}"
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


@contextlib.contextmanager
def _named_if_it_fails(label: str, problems: list[str]) -> Iterator[None]:
    """Note whatever a figure raises, an exit too, in one line; what it prints is no output of the command."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except PluginError as error:
        problems.append(f"{label} is left out: {single_line(str(error))}")
    except BaseException as error:  # plugins are code: they can raise anything
        problems.append(f"{label} is left out: {describe_error(error)}")
