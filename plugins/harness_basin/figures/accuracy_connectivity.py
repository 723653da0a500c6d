"""Accuracy against connectivity, with one point per method (paper, figure 2c).

The figure shows how much accuracy an ensemble loses if its members are in one basin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness import Figure, FigureData, Plot, drawing, leaderboard
from harness_basin.figures.crowd import NEAR, Crowd, crowded, magnify
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
_MOST_NAMES = 12


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
            curves.append(_Curve(curve.label, curve.style, points))
            connected = connected or curve.has_several_fork_epochs
        positions = _positions(curves)
        if not positions:
            return
        labels = (drawing.metric_label(data.table, _METRICS[0]), drawing.metric_label(data.table, _METRICS[1]))
        baseline = _point(ForkedMethod(None, data.table.methods[0].name), known)
        yield Plot(
            title="Accuracy against connectivity",
            caption=_caption(_seeds(data.table, len(curves)), crowded(positions) is not None, baseline, connected),
            columns=("curve", "method", FORK_EPOCH, *_metric_columns()),
            records=_records(curves),
            paint=partial(_paint, curves, baseline, labels),
            size=(7.6, drawing.height(3.7, len(curves))),
        )


def _point(forked: ForkedMethod, known: Mapping[tuple[str, str], leaderboard.Entry]) -> _Point:
    return _Point(forked, tuple(known.get((forked.method, metric)) for metric in _METRICS))


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


def _seeds(table: leaderboard.Table, curves: int) -> str:
    """Return the sentences that describe the error bars."""
    if curves > drawing.MOST_LABELS:
        return f"{seeds_shown(table)} With more than {drawing.MOST_LABELS} curves, only the data have the error bars."
    return seeds_shown(table)


def _caption(seeds: str, magnified: bool, baseline: _Point, connected: bool) -> str:
    """Describe the error bars, the inset, the horizontal lines, and the lines between points."""
    sentences = [seeds]
    if magnified:
        sentences.append(f"The inset shows the points within ±{NEAR:g} % of connectivity larger.")
    sentences += _horizontal_lines(baseline)
    if connected:
        sentences.append("A line joins one method at several fork epochs t, written beside its points.")
    sentences.append(f"From the rows {', '.join(_METRICS)}. As figure 2c of {SOURCE}.")
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


def _paint(curves: Sequence[_Curve], baseline: _Point, labels: tuple[str, str], canvas: Canvas) -> None:
    axes = canvas.subplots()
    shown = [curve for curve in curves if curve.drawable]
    handles = _draw_curves(axes, shown, baseline)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.margins(0.08, 0.14)
    crowd = crowded(_positions(shown))
    inset = None
    if crowd is not None:
        inset = _inset(axes, shown, baseline, crowd)
    if not _name_points(axes, inset, shown, baseline):
        drawing.legend(axes, handles, [drawing.label(curve.label) for curve in shown])


def _positions(curves: Sequence[_Curve]) -> list[tuple[float, float]]:
    """Return connectivity and accuracy of all points that can be drawn."""
    found = []
    for curve in curves:
        found += [point.position[:2] for point in curve.drawable if point.position]
    return found


def _draw_curves(axes: Axes, curves: Sequence[_Curve], baseline: _Point) -> list[Artist]:
    """Draw all curves and the horizontal lines; return the curves' handles."""
    for entry, line in zip(baseline.entries[1:], ("--", ":")):
        level = drawable(entry)
        if level:
            axes.axhline(level[0], color=drawing.GREY, linestyle=line, linewidth=0.9, zorder=1)
    return [_line(axes, curve, bars=len(curves) <= drawing.MOST_LABELS) for curve in curves]


def _name_points(axes: Axes, inset: Axes | None, curves: Sequence[_Curve], baseline: _Point) -> bool:
    """Name single points beside them, those of the crowd in the inset. Return whether all of them have a name.

    Curves of several points, and more points than can be named, get none.
    """
    if len(curves) > _MOST_NAMES or any(len(curve.drawable) > 1 for curve in curves):
        return False
    inside = []
    outside = []
    for curve in curves:
        if inset is not None and abs(_positions([curve])[0][0]) <= NEAR:
            inside.append(curve)
        else:
            outside.append(curve)
    placed = []
    for where, named in ((axes, outside), (inset, inside)):
        if where is None or not named:
            continue
        boxes = [] if inset is None or where is inset else [drawing.box_of(inset)]
        placed += drawing.label_points(
            where,
            _positions(named),
            [drawing.label(curve.label) for curve in named],
            [curve.style.color for curve in named],
            obstacles=_obstacles(where, curves, baseline),
            boxes=boxes,
        )
    if len(placed) == len(curves):
        return True
    for text in placed:
        text.remove()
    return False


def _obstacles(axes: Axes, curves: Sequence[_Curve], baseline: _Point) -> list[tuple[float, float]]:
    """Return positions along error bars and horizontal lines inside the axes, which names and the inset leave free."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    found: list[tuple[float, float]] = []
    for curve in curves:
        for point in curve.drawable:
            assert point.position is not None
            x, y, x_std, y_std = point.position
            found += drawing.along((x - x_std, y), (x + x_std, y))
            found += drawing.along((x, y - y_std), (x, y + y_std))
    for entry in baseline.entries[1:]:
        level = drawable(entry)
        if level:
            found += drawing.along((left, level[0]), (right, level[0]))
    return [(x, y) for x, y in found if left <= x <= right and bottom <= y <= top]


def _inset(axes: Axes, curves: Sequence[_Curve], baseline: _Point, crowd: Crowd) -> Axes:
    """Show the points that crowd near 0 larger, where the picture is emptiest; return the axes of the inset."""
    covered = _obstacles(axes, curves, baseline)
    covered += 10 * _positions(curves)  # a point counts more than a part of a line
    inset = magnify(axes, crowd, covered)
    _draw_curves(inset, curves, baseline)
    return inset


def _line(axes: Axes, curve: _Curve, *, bars: bool) -> Artist:
    """Draw the points of a curve, with or without error bars; return its handle for the legend."""
    style = curve.style
    points = curve.drawable
    positions = [point.position for point in points if point.position]
    x, y, x_std, y_std = (list(values) for values in zip(*positions))
    errors: tuple[list[float] | None, list[float] | None] = (y_std, x_std)
    if not bars or not any(y_std + x_std):
        errors = (None, None)
    several = len(points) > 1
    line = style.line if several else ""
    name = drawing.label(curve.label)
    drawn = axes.errorbar(x, y, *errors, color=style.color, marker=style.marker, linestyle=line, linewidth=0.9, label=name)
    if several:
        for point, position in zip(points, zip(x, y)):
            text = axes.annotate(
                str(point.forked.fork_epoch),
                position,
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7.0,
                color=style.color,
                annotation_clip=True,
                clip_on=True,
            )
            text.set_in_layout(False)
    return drawn[0]
