"""Accuracy along the segments between members, a curve per method (paper, figures 2a and 2b)."""

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
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_METRIC = re.compile(r"pairwise_curve/(\d+)-(\d+)/(\d+(?:\.\d+)?(?:e-?\d+)?)")
"""Names of the rows: members i and j, and λ, the share of member j."""


class _Point(NamedTuple):
    """Accuracy at a λ over pairs and seeds."""

    share: float
    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class _Curve:
    """A method's points in order of λ, and its style, which is that of its curve in the other figures."""

    method: str
    style: drawing.CurveStyle
    points: tuple[_Point, ...]


class PairwiseCurves(Figure):
    """Accuracy along the segments between members: rows `pairwise_curve/<i>-<j>/<λ>` (paper, figures 2a and 2b)."""

    name, version = "pairwise_curves", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Return one plot; none where no row is of a curve."""
        curves = _curves(data)
        if not any(drawing.fits_an_axis(point.mean) for curve in curves for point in curve.points):
            return
        most = max(point.n for curve in curves for point in curve.points)
        band = "One segment"
        if most > 1:
            band = f"Mean and standard deviation over pairs and seeds, {most} segments at most"
        yield Plot(
            title="Accuracy between two members",
            caption=f"Test accuracy of (1 − λ) θᵢ + λ θⱼ. {band}. As figures 2a and 2b of {SOURCE}.",
            columns=("method", "lambda", "accuracy", "accuracy_std", "n"),
            records=tuple((curve.method, *point) for curve in curves for point in curve.points),
            paint=partial(_paint, curves),
            size=(7.6, drawing.height(3.5, len(curves))),
        )


def _curves(data: FigureData) -> list[_Curve]:
    """Return the curves of the methods that have rows, in the table's order of curves."""
    values = _values(data)
    found = []
    for curve in method_curves(data):
        for step, forked in enumerate(curve.methods):
            if forked.method in values:
                style = drawing.curve_style(curve.index, step)
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


def _points(by_share: dict[float, list[float]]) -> tuple[_Point, ...]:
    return tuple(_Point(share, *leaderboard.mean_and_std(values), len(values)) for share, values in sorted(by_share.items()))


def _paint(curves: Sequence[_Curve], canvas: Canvas) -> None:
    axes = canvas.subplots()
    handles = [_line(axes, curve) for curve in curves]
    axes.set_xlim(0, 1)
    axes.set_xlabel("λ")
    axes.set_ylabel("test accuracy (%)")
    drawing.legend(axes, handles, [drawing.label(curve.method) for curve in curves])


def _line(axes: Axes, curve: _Curve) -> Artist:
    """Draw a curve with its band of one standard deviation; return what stands for it in the legend."""
    style = curve.style
    shares, means, low, high = [], [], [], []
    for point in curve.points:
        mean = point.mean if drawing.fits_an_axis(point.mean) else math.nan
        spread = point.std if point.std and drawing.fits_an_axis(point.std) else 0.0
        shares.append(point.share)
        means.append(mean)
        low.append(mean - spread)
        high.append(mean + spread)
    (handle,) = axes.plot(shares, means, color=style.color, marker=style.marker, linestyle=style.line, markersize=3.5)
    axes.fill_between(shares, low, high, color=style.color, alpha=0.15, linewidth=0)
    return handle
