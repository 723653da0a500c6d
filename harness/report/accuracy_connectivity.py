"""Accuracy against connectivity, a point a method: what an ensemble pays for lying in one basin (paper, figure 2c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.leaderboard import Entry, Table
from harness.report.drawing import GREY, SOURCE, Figure, height, label, legend, look
from harness.report.variants import FORK_EPOCH, Stop, Variant, drawable, entries

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

    stop: Stop
    entries: tuple[Entry | None, ...]

    @property
    def place(self) -> tuple[float, float, float, float] | None:
        """Connectivity, accuracy and the spread of each; None unless both are finite."""
        x, y = (drawable(entry) for entry in self.entries[:2])
        return None if x is None or y is None else (x[0], y[0], x[1], y[1])


_Curves = Sequence[tuple[Variant, Sequence[_Point]]]


def accuracy_connectivity(table: Table, variants: Sequence[Variant]) -> Figure | None:
    """Return the figure of a table; None where no method has both coordinates."""
    known = entries(table)
    curves = [(variant, [_point(stop, known) for stop in variant.stops]) for variant in variants]
    places = [point.place for _, points in curves for point in points if point.place]
    if not places:
        return None
    columns = (f"{metric}{part}" for metric in _METRICS for part in ("", "_std", "_n"))
    lines = (_line(variant.label, point) for variant, points in curves for point in points)
    wide = max(abs(x) for x, *_ in places) > _WIDE
    baseline = _point(Stop(None, table.methods[0].name), known)
    return Figure(
        name="accuracy_connectivity",
        section=f"{table.dataset}, {table.architecture}",
        title="Accuracy against connectivity",
        caption=_caption(len(table.seeds), wide, baseline, any(variant.is_curve for variant in variants)),
        columns=("curve", "method", FORK_EPOCH, *columns),
        lines=tuple(lines),
        size=(7.6, height(3.7, len(curves))),
        draw=partial(_draw, curves, baseline, wide),
    )


def _point(stop: Stop, known: Mapping[tuple[str, str], Entry]) -> _Point:
    return _Point(stop, tuple(known.get((stop.method, metric)) for metric in _METRICS))


def _line(curve: str, point: _Point) -> tuple[object, ...]:
    fields = [(None, None, 0) if entry is None else (entry.mean, entry.std, entry.n) for entry in point.entries]
    return (curve, point.stop.method, point.stop.fork_epoch, *(field for three in fields for field in three))


def _caption(seeds: int, wide: bool, baseline: _Point, curves: bool) -> str:
    """Say what is shown, and what of it is not on plain axes."""
    bars = f"Mean and standard deviation over {seeds} seeds." if seeds > 1 else "One seed, so no spread."
    axis = f" Connectivity is on a logarithmic axis beyond ±{_LINEAR:g} %." if wide else ""
    joined = " A line joins one method at several fork epochs t, written beside its points." if curves else ""
    return f"{bars}{axis}{_reference(baseline)}{joined} As figure 2c of {SOURCE}."


def _reference(baseline: _Point) -> str:
    """Describe the horizontal lines: the first method's accuracy, and its members'."""
    _, accuracy, members = map(drawable, baseline.entries)
    dashed = f"dashed: accuracy of the first method, {baseline.stop.method}" if accuracy else ""
    dotted = f"dotted: mean of the members of {baseline.stop.method}" if members else ""
    told = "; ".join(filter(None, [dashed, dotted]))
    return f" Lines across, {told}." if told else ""


def _draw(curves: _Curves, baseline: _Point, wide: bool, canvas: Canvas) -> None:
    axes = canvas.subplots()
    for entry, line in zip(baseline.entries[1:], ("--", ":")):
        across = drawable(entry)
        if across:
            axes.axhline(across[0], color=GREY, linestyle=line, linewidth=0.9, zorder=1)
    handles, labels = [], []
    for variant, points in curves:
        shown = [point for point in points if point.place]
        if shown:
            handles.append(_curve(axes, shown, variant.index))
            labels.append(label(variant.label))
    if wide:
        _stretch(axes)
    axes.set_xlabel("joint connectivity (%)")
    axes.set_ylabel("ensemble accuracy (%)")
    axes.margins(0.06, 0.1)
    legend(axes, handles, labels)


def _curve(axes: Axes, points: Sequence[_Point], index: int) -> Artist:
    """Draw the points of a curve; return what stands for it in the legend."""
    style = look(index)
    places = [point.place for point in points if point.place]
    x, y, x_spread, y_spread = (list(values) for values in zip(*places))
    line = style.line if len(points) > 1 else ""
    drawn = axes.errorbar(x, y, y_spread, x_spread, color=style.colour, marker=style.marker, linestyle=line, linewidth=0.9)
    if len(points) > 1:
        for point, at in zip(points, zip(x, y)):
            beside = str(point.stop.fork_epoch)
            axes.annotate(beside, at, xytext=(4, 4), textcoords="offset points", fontsize=7.0, color=style.colour)
    return drawn[0]


def _stretch(axes: Axes) -> None:
    """Make the axis of connectivity logarithmic away from 0, with round ticks."""
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=0.8)
    low, high = axes.get_xlim()
    axes.set_xticks([x for x in _TICKS if low <= x <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
