"""Accuracy against connectivity, with one point per method (paper, figure 2c).

The figure shows how much accuracy an ensemble loses if its members are in one basin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness import Figure, FigureData, Plot, drawing, leaderboard
from harness_basin.figures.method_curves import (
    FORK_EPOCH,
    SOURCE,
    ForkedMethod,
    drawable,
    entries,
    method_curves,
    seeds_shown,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_METRICS = ("joint_connectivity", "ensemble_accuracy", "mean_member_accuracy")
_LARGEST_LINEAR = 15.0
"""Percent of connectivity beyond which the axis is logarithmic, so that points near 0 can be distinguished."""

_LINEAR_RANGE = 2.0
"""Percent on either side of 0 in which a logarithmic axis is linear."""

_TICKS = (-100, -50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class _Point:
    """A method with its entries of `_METRICS`: connectivity, accuracy of the ensemble, mean accuracy of its members."""

    forked: ForkedMethod
    entries: tuple[leaderboard.Entry | None, ...]

    @property
    def position(self) -> tuple[float, float, float, float] | None:
        """Connectivity, accuracy, and the standard deviation of each; None unless an axis can show both means."""
        x = drawable(self.entries[0])
        y = drawable(self.entries[1])
        if x is None or y is None:
            return None
        return x[0], y[0], x[1], y[1]


@dataclass(frozen=True)
class _Curve:
    """Methods that one line connects, in order of the fork epoch."""

    label: str
    style: drawing.CurveStyle
    points: tuple[_Point, ...]

    @property
    def drawable(self) -> list[_Point]:
        """The points that have a position."""
        return [point for point in self.points if point.position]


class AccuracyConnectivity(Figure):
    """Accuracy of the ensemble against joint connectivity, for methods with rows of both metrics (paper, figure 2c)."""

    name, version = "accuracy_connectivity", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none if no method has both coordinates."""
        known = entries(data.table)
        curves = []
        connected = False
        for curve in method_curves(data):
            points = tuple(_point(forked, known) for forked in curve.methods)
            curves.append(_Curve(curve.label, drawing.curve_style(curve.index), points))
            connected = connected or curve.has_several_fork_epochs
        connectivities = _connectivities(curves)
        if not connectivities:
            return
        logarithmic = max(map(abs, connectivities)) > _LARGEST_LINEAR
        baseline = _point(ForkedMethod(None, data.table.methods[0].name), known)
        yield Plot(
            title="Accuracy against connectivity",
            caption=_caption(seeds_shown(data.table), logarithmic, baseline, connected),
            columns=("curve", "method", FORK_EPOCH, *_metric_columns()),
            records=_records(curves),
            paint=partial(_paint, curves, baseline, logarithmic),
            size=(7.6, drawing.height(3.7, len(curves))),
        )


def _point(forked: ForkedMethod, known: Mapping[tuple[str, str], leaderboard.Entry]) -> _Point:
    return _Point(forked, tuple(known.get((forked.method, metric)) for metric in _METRICS))


def _connectivities(curves: Sequence[_Curve]) -> list[float]:
    """Return the connectivity of every point that has a position."""
    found = []
    for curve in curves:
        for point in curve.points:
            if point.position:
                found.append(point.position[0])
    return found


def _metric_columns() -> Iterable[str]:
    """Yield three column names per metric: mean, standard deviation and number of seeds."""
    for metric in _METRICS:
        yield from (metric, f"{metric}_std", f"{metric}_n")


def _records(curves: Sequence[_Curve]) -> tuple[tuple[object, ...], ...]:
    """Return one record per point, also for points that cannot be drawn."""
    records = []
    for curve in curves:
        for point in curve.points:
            fields: list[object] = [curve.label, point.forked.method, point.forked.fork_epoch]
            for entry in point.entries:
                if entry is None:
                    fields += [None, None, 0]
                else:
                    fields += [entry.mean, entry.std, entry.n]
            records.append(tuple(fields))
    return tuple(records)


def _caption(seeds: str, logarithmic: bool, baseline: _Point, connected: bool) -> str:
    """Describe the error bars, the axis of connectivity, the horizontal lines, and the lines between points."""
    sentences = [seeds]
    if logarithmic:
        sentences.append(f"Connectivity is on a logarithmic axis beyond ±{_LINEAR_RANGE:g} %.")
    sentences += _horizontal_lines(baseline)
    if connected:
        sentences.append("A line joins one method at several fork epochs t, written beside its points.")
    sentences.append(f"As figure 2c of {SOURCE}.")
    return " ".join(sentences)


def _horizontal_lines(baseline: _Point) -> list[str]:
    """Return the sentence that describes the horizontal lines, or no sentence if there are none."""
    _, accuracy, members = map(drawable, baseline.entries)
    described = []
    if accuracy:
        described.append(f"dashed: accuracy of the first method, {baseline.forked.method}")
    if members:
        described.append(f"dotted: mean of the members of {baseline.forked.method}")
    if not described:
        return []
    return [f"Lines across, {'; '.join(described)}."]


def _paint(curves: Sequence[_Curve], baseline: _Point, logarithmic: bool, canvas: Canvas) -> None:
    axes = canvas.subplots()
    for entry, line in zip(baseline.entries[1:], ("--", ":")):
        level = drawable(entry)
        if level:
            axes.axhline(level[0], color=drawing.GREY, linestyle=line, linewidth=0.9, zorder=1)
    shown = [curve for curve in curves if curve.drawable]
    handles = [_line(axes, curve) for curve in shown]
    if logarithmic:
        _set_logarithmic(axes)
    axes.set_xlabel("joint connectivity (%)")
    axes.set_ylabel("ensemble accuracy (%)")
    axes.margins(0.06, 0.1)
    drawing.legend(axes, handles, [drawing.label(curve.label) for curve in shown])


def _line(axes: Axes, curve: _Curve) -> Artist:
    """Draw the points of a curve; return its handle for the legend."""
    style = curve.style
    points = curve.drawable
    positions = [point.position for point in points if point.position]
    x, y, x_std, y_std = (list(values) for values in zip(*positions))
    several = len(points) > 1
    line = style.line if several else ""
    drawn = axes.errorbar(x, y, y_std, x_std, color=style.color, marker=style.marker, linestyle=line, linewidth=0.9)
    if several:
        for point, position in zip(points, zip(x, y)):
            text = str(point.forked.fork_epoch)
            axes.annotate(text, position, xytext=(4, 4), textcoords="offset points", fontsize=7.0, color=style.color)
    return drawn[0]


def _set_logarithmic(axes: Axes) -> None:
    """Make the axis of connectivity logarithmic outside the linear range, with round ticks."""
    axes.set_xscale("symlog", linthresh=_LINEAR_RANGE, linscale=0.8)
    low, high = axes.get_xlim()
    axes.set_xticks([x for x in _TICKS if low <= x <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
