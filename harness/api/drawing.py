"""Colors, curve styles, labels, legends and panels for authors of figures: `from harness import drawing`.

Importing this module does not import matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.api.label_placement import along, box_of, label_curves, label_points
from harness.api.palette import (
    ACCENT,
    COLORS,
    FAINT,
    GREY,
    INK,
    SEQUENTIAL,
    CurveStyle,
    curve_style,
    method_style,
)
from harness.leaderboard.paper import title_of
from harness.text import plain_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    from harness.leaderboard import Table

__all__ = [
    "ACCENT",
    "COLORS",
    "FAINT",
    "GREY",
    "INK",
    "MOST_LABELS",
    "SEQUENTIAL",
    "CurveStyle",
    "along",
    "box_of",
    "curve_style",
    "first_of",
    "fits_an_axis",
    "height",
    "is_narrow",
    "label",
    "label_curves",
    "label_points",
    "legend",
    "method_style",
    "metric_label",
    "name_curves",
    "name_points",
    "panels",
    "whole_number_ticks",
]

MOST_LABELS = 40
"""Most curves of a picture and entries of a legend. A legend counts the others."""

_MOST_DIRECT_LABELS, _MOST_CURVE_LABELS = 12, 10
_LONGEST_LABEL = 48
_LONGEST_NARROW_LABEL = 26
_LARGEST = 1e100
_NARROW = 5.0  # inches: a column of a two-column page
_PANEL_WIDTH, _PANEL_HEIGHT = 1.55, 1.6  # inches: the narrowest panel, and the least height of one in a narrow picture
_LEGEND_LINE = 0.18  # inches


def label(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Return a name for a figure: one line of at most 48 characters without control characters.

    A leading underscore gets a space before it, since matplotlib omits labels with a leading underscore from legends.
    """
    clean = plain_line(text)
    if len(clean) > longest:
        clean = f"{clean[: longest - 1]}…"
    return f" {clean}" if clean.startswith("_") else clean


def height(least: float, labels: int) -> float:
    """Return the height in inches of a plot with a legend of `labels` lines at its right; at least `least`."""
    return max(least, 0.75 + _LEGEND_LINE * min(labels, MOST_LABELS + 1))


def first_of(shown: int, every: int, things: str = "methods") -> str:
    """Return the sentence of a caption about what a picture leaves out; empty if it shows everything."""
    if shown >= every:
        return ""
    return f"The picture shows the first {shown} of {every} {things}; the data have all."


def metric_label(table: Table, metric: str) -> str:
    """Return the label of an axis that shows a metric of the table, in words and with its unit: `Connectivity q̄ (%)`.

    It is made of the title, the symbol (unless that is an abbreviation) and the unit that the metric declares.
    """
    for column in table.columns:
        if column.metric == metric:
            symbol = "" if column.symbol.isascii() or column.symbol == column.title else f" {label(column.symbol)}"
            return f"{label(title_of(column))}{symbol}{_unit(column.unit)}"
    return label(metric.replace("_", " "))


def _unit(unit: str) -> str:
    """Return a unit in brackets; none for a number without one."""
    if not unit:
        return ""
    return " (%)" if unit == "percent" else f" ({label(unit)})"


def fits_an_axis(value: float) -> bool:
    """Return whether an axis can show a number: it is finite, and sums of such numbers do not overflow (below 1e100)."""
    return math.isfinite(value) and abs(value) < _LARGEST


def is_narrow(canvas: Canvas) -> bool:
    """Return whether a picture is as narrow as a column of a two-column page: below 5 inches."""
    return bool(canvas.get_figwidth() < _NARROW)


def legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend at the right of the axes, or below them in a narrow picture, which becomes higher by the legend.

    After 40 entries, a line tells how many there are beyond them.
    """
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    shown = list(handles[:MOST_LABELS])
    names = list(labels[:MOST_LABELS])
    beyond = len(labels) - len(names)
    if beyond > 0:
        shown.append(handles[MOST_LABELS])
        names.append(f"and {beyond} more, in the data")
    if not is_narrow(canvas):
        axes.legend(shown, names, loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0, handlelength=1.8)
        return
    names = [label(name, _LONGEST_NARROW_LABEL) for name in names]
    columns = 1
    if canvas.get_figwidth() >= 2.5 and max(map(len, names), default=0) <= 20:
        columns = 2
    rows = -(-len(names) // columns)
    canvas.set_figheight(canvas.get_figheight() + _LEGEND_LINE * (rows + 1))
    canvas.legend(shown, names, loc="outside lower center", ncols=columns, handlelength=1.8)


def name_curves(axes: Axes, handles: Sequence[Line2D], ends: Sequence[float], names: Sequence[str]) -> None:
    """Name curves at their right ends, `ends` being their last values, or in a legend.

    A legend is for more than ten curves, for two of one color, and for narrow pictures. Call this last.
    """
    from matplotlib.colors import to_hex

    canvas = axes.get_figure(root=True)
    assert canvas is not None
    colors = [to_hex(handle.get_color()) for handle in handles]
    shown = [label(name) for name in names]
    if len(names) > _MOST_CURVE_LABELS or len(set(colors)) < len(colors) or is_narrow(canvas):
        legend(axes, handles, shown)
    else:
        label_curves(axes, ends, shown, colors)


def name_points(
    axes: Axes,
    handles: Sequence[Artist],
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    colors: Sequence[str],
    obstacles: Sequence[tuple[float, float]] = (),
) -> None:
    """Name points beside them, or in a legend if they are more than twelve, or if a name finds no room beside its point.

    `obstacles` are positions that names leave free, in data coordinates. Call this last.
    """
    shown = [label(name) for name in names]
    if len(points) <= _MOST_DIRECT_LABELS:
        placed = label_points(axes, points, [label(name, _LONGEST_NARROW_LABEL) for name in names], colors, obstacles=obstacles)
        if len(placed) == len(points):
            return
        for text in placed:
            text.remove()
    legend(axes, handles, shown)


def panels(canvas: Canvas, count: int, columns: int = 0) -> list[Axes]:
    """Return the axes of panels, row by row, at most `columns` side by side (0: all of them).

    Panels are at least 1.55 inches wide. If the picture is too narrow for that, there are more rows, and it becomes higher.
    """
    fitting = max(1, int(canvas.get_figwidth() // _PANEL_WIDTH))
    wanted = columns or count
    across = max(1, min(wanted, count, fitting))
    rows = -(-count // across)
    if across < wanted or is_narrow(canvas):
        canvas.set_figheight(max(canvas.get_figheight(), _PANEL_HEIGHT * rows))
    every = list(canvas.subplots(rows, across, squeeze=False).flat)
    for axes in every[count:]:
        axes.remove()
    return every[:count]


def whole_number_ticks(axes: Axes) -> None:
    """Put the ticks of the horizontal axis at integers, for epochs or members."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
