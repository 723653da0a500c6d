"""Accuracy against connectivity, a point per method: what an ensemble pays for lying in one basin (paper, figure 2c)."""

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
_WIDE = 15.0  # percent of connectivity beyond which the axis is logarithmic, so that what lies near 0 can be told apart
_LINEAR = 2.0  # percent on either side of 0 that stay linear then
_TICKS = (-100, -50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class _Point:
    """A method with its entries: connectivity, accuracy, accuracy of its members."""

    forked: ForkedMethod
    entries: tuple[leaderboard.Entry | None, ...]

    @property
    def position(self) -> tuple[float, float, float, float] | None:
        """Connectivity, accuracy and the spread of each; None unless an axis can show both."""
        x, y = (drawable(entry) for entry in self.entries[:2])
        if x is None or y is None:
            return None
        return x[0], y[0], x[1], y[1]


@dataclass(frozen=True)
class _Curve:
    """Methods that one line joins."""

    label: str
    style: drawing.CurveStyle
    points: tuple[_Point, ...]

    @property
    def drawable(self) -> list[_Point]:
        """The points that have a position."""
        return [point for point in self.points if point.position]


class AccuracyConnectivity(Figure):
    """Accuracy of the ensemble against joint connectivity, for methods that have rows of both (paper, figure 2c)."""

    name, version = "accuracy_connectivity", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Return one plot; none where no method has both coordinates."""
        known = entries(data.table)
        curves, joined = [], False
        for curve in method_curves(data):
            points = tuple(_point(forked, known) for forked in curve.methods)
            curves.append(_Curve(curve.label, drawing.curve_style(curve.index), points))
            joined = joined or curve.has_several_fork_epochs
        positions = [point.position for curve in curves for point in curve.points if point.position]
        if not positions:
            return
        wide = max(abs(x) for x, *_ in positions) > _WIDE
        baseline = _point(ForkedMethod(None, data.table.methods[0].name), known)
        yield Plot(
            title="Accuracy against connectivity",
            caption=_caption(seeds_shown(data.table), wide, baseline, joined),
            columns=("curve", "method", FORK_EPOCH, *_columns()),
            records=tuple(_record(curve.label, point) for curve in curves for point in curve.points),
            paint=partial(_paint, curves, baseline, wide),
            size=(7.6, drawing.height(3.7, len(curves))),
        )


def _point(forked: ForkedMethod, known: Mapping[tuple[str, str], leaderboard.Entry]) -> _Point:
    return _Point(forked, tuple(known.get((forked.method, metric)) for metric in _METRICS))


def _columns() -> Iterable[str]:
    for metric in _METRICS:
        yield from (metric, f"{metric}_std", f"{metric}_n")


def _record(curve: str, point: _Point) -> tuple[object, ...]:
    fields: list[object] = [curve, point.forked.method, point.forked.fork_epoch]
    for entry in point.entries:
        fields += [None, None, 0] if entry is None else [entry.mean, entry.std, entry.n]
    return tuple(fields)


def _caption(seeds: str, wide: bool, baseline: _Point, joined: bool) -> str:
    """Say what is shown, and what of it is not on plain axes."""
    axis = f" Connectivity is on a logarithmic axis beyond ±{_LINEAR:g} %." if wide else ""
    lines = " A line joins one method at several fork epochs t, written beside its points." if joined else ""
    return f"{seeds}{axis}{_reference(baseline)}{lines} As figure 2c of {SOURCE}."


def _reference(baseline: _Point) -> str:
    """Describe the horizontal lines: the first method's accuracy, and its members'."""
    _, accuracy, members = map(drawable, baseline.entries)
    described = []
    if accuracy:
        described.append(f"dashed: accuracy of the first method, {baseline.forked.method}")
    if members:
        described.append(f"dotted: mean of the members of {baseline.forked.method}")
    return f" Lines across, {'; '.join(described)}." if described else ""


def _paint(curves: Sequence[_Curve], baseline: _Point, wide: bool, canvas: Canvas) -> None:
    axes = canvas.subplots()
    for entry, line in zip(baseline.entries[1:], ("--", ":")):
        across = drawable(entry)
        if across:
            axes.axhline(across[0], color=drawing.GREY, linestyle=line, linewidth=0.9, zorder=1)
    shown = [curve for curve in curves if curve.drawable]
    handles = [_line(axes, curve) for curve in shown]
    if wide:
        _stretch(axes)
    axes.set_xlabel("joint connectivity (%)")
    axes.set_ylabel("ensemble accuracy (%)")
    axes.margins(0.06, 0.1)
    drawing.legend(axes, handles, [drawing.label(curve.label) for curve in shown])


def _line(axes: Axes, curve: _Curve) -> Artist:
    """Draw the points of a curve; return what stands for it in the legend."""
    style, points = curve.style, curve.drawable
    positions = [point.position for point in points if point.position]
    x, y, x_spread, y_spread = (list(values) for values in zip(*positions))
    line = style.line if len(points) > 1 else ""
    drawn = axes.errorbar(x, y, y_spread, x_spread, color=style.color, marker=style.marker, linestyle=line, linewidth=0.9)
    if len(points) > 1:
        for point, at in zip(points, zip(x, y)):
            beside = str(point.forked.fork_epoch)
            axes.annotate(beside, at, xytext=(4, 4), textcoords="offset points", fontsize=7.0, color=style.color)
    return drawn[0]


def _stretch(axes: Axes) -> None:
    """Make the axis of connectivity logarithmic away from 0, with round ticks."""
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=0.8)
    low, high = axes.get_xlim()
    axes.set_xticks([x for x in _TICKS if low <= x <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
