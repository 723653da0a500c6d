"""Accuracy along the line segments between members, with one curve per method (paper, figures 2a and 2b)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness import Figure, FigureData, Plot, drawing, leaderboard
from harness_basin.figures.method_curves import SOURCE, method_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

_METRIC = re.compile(r"pairwise_curve/(\d+)-(\d+)/(\d+(?:\.\d+)?(?:e-?\d+)?)")
"""The metric's names in rows: members i and j, and λ, the weight of member j."""


class _Point(NamedTuple):
    """Mean, standard deviation and number of accuracies at one λ, over pairs and seeds."""

    weight: float
    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class _Curve:
    """A method's points in order of λ. The style is the same as in the other figures."""

    method: str
    style: drawing.CurveStyle
    points: tuple[_Point, ...]


class PairwiseCurves(Figure):
    """Accuracy along the line segments between members: rows `pairwise_curve/<i>-<j>/<λ>` (paper, figures 2a and 2b)."""

    name, version = "pairwise_curves", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none if no method has a point that an axis can show."""
        curves = _curves(data)
        points: list[_Point] = []
        for curve in curves:
            points += curve.points
        if not any(drawing.fits_an_axis(point.mean) for point in points):
            return
        segments = max(point.n for point in points)
        band = "One segment"
        if segments > 1:
            band = f"Mean and standard deviation over pairs and seeds, {segments} segments at most"
        shown = curves[: drawing.MOST_LABELS]
        omitted = drawing.first_of(len(shown), len(curves))
        if omitted:
            omitted += " "
        yield Plot(
            title="Accuracy between two members",
            caption=f"Test accuracy of (1 − λ) θᵢ + λ θⱼ. {band}. {omitted}"
            f"From the rows pairwise_curve. As figures 2a and 2b of {SOURCE}.",
            columns=("method", "lambda", "accuracy", "accuracy_std", "n"),
            records=_records(curves),
            paint=partial(_paint, shown),
            size=(7.6, drawing.height(3.5, len(shown))),
        )


def _curves(data: FigureData) -> list[_Curve]:
    """Return the curves of the methods that have rows, in the table's order of curves."""
    values = _values(data)
    found = []
    for curve in method_curves(data):
        for forked in curve.methods:
            if forked.method in values:
                style = drawing.method_style(forked.method)
                found.append(_Curve(forked.method, style, _points(values[forked.method])))
    return found


def _values(data: FigureData) -> dict[str, dict[float, list[float]]]:
    """Return accuracies by method and λ."""
    found: dict[str, dict[float, list[float]]] = {}
    done = data.rows[data.rows["status"] == "done"]
    for method, metric, value in zip(done["method"], done["metric"], done["value"]):
        matched = _METRIC.fullmatch(metric)
        if matched:
            found.setdefault(method, {}).setdefault(float(matched[3]), []).append(value)
    return found


def _points(by_weight: dict[float, list[float]]) -> tuple[_Point, ...]:
    points = []
    for weight, values in sorted(by_weight.items()):
        mean, std = leaderboard.mean_and_std(values)
        points.append(_Point(weight, mean, std, len(values)))
    return tuple(points)


def _records(curves: Sequence[_Curve]) -> tuple[tuple[object, ...], ...]:
    records = []
    for curve in curves:
        records += [(curve.method, *point) for point in curve.points]
    return tuple(records)


def _paint(curves: Sequence[_Curve], canvas: Canvas) -> None:
    axes = canvas.subplots()
    handles = [_line(axes, curve) for curve in curves]
    axes.set_xlim(0, 1)
    axes.set_xlabel("Weight of the second member, λ")
    axes.set_ylabel("Test accuracy (%)")
    ends = [curve.points[-1].mean for curve in curves]
    if all(map(drawing.fits_an_axis, ends)):
        drawing.name_curves(axes, handles, ends, [curve.method for curve in curves])
    else:
        drawing.legend(axes, handles, [drawing.label(curve.method) for curve in curves])


def _line(axes: Axes, curve: _Curve) -> Line2D:
    """Draw a curve with a band of one standard deviation; return its handle for the legend."""
    style = curve.style
    weights = []
    means = []
    low = []
    high = []
    for point in curve.points:
        mean = math.nan
        if drawing.fits_an_axis(point.mean):
            mean = point.mean
        std = 0.0
        if point.std and drawing.fits_an_axis(point.std):
            std = point.std
        weights.append(point.weight)
        means.append(mean)
        low.append(mean - std)
        high.append(mean + std)
    name = drawing.label(curve.method)
    (handle,) = axes.plot(
        weights, means, color=style.color, marker=style.marker, linestyle=style.line, markersize=3.5, label=name
    )
    axes.fill_between(weights, low, high, color=style.color, alpha=0.15, linewidth=0)
    return handle
