"""Accuracy along the segments between members, a curve a method (paper, figures 2a and 2b)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness.leaderboard import Table, mean_and_std
from harness.report.drawing import SOURCE, Figure, Look, fits_an_axis, height, label, legend, look
from harness.report.variants import Variant
from harness.results import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

METRIC = re.compile(r"pairwise_curve/(\d+)-(\d+)/(\d+(?:\.\d+)?(?:e-?\d+)?)")
"""Names of the rows: members i and j, and λ, the share of member j."""


class _Point(NamedTuple):
    """Accuracy at a λ over pairs and seeds."""

    share: float
    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class _Curve:
    """A method's points in order of λ, and how it is drawn: as its curve in the other figures."""

    method: str
    look: Look
    points: tuple[_Point, ...]


def pairwise_curves(table: Table, variants: Sequence[Variant], rows: Iterable[Row]) -> Figure | None:
    """Return the figure of a table from its rows; None if none of them is of a curve."""
    values: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        found = METRIC.fullmatch(row.metric)
        if found and row.value is not None:
            values.setdefault(row.method, {}).setdefault(float(found[3]), []).append(row.value)
    looks = {stop.method: look(variant.index, step) for variant in variants for step, stop in enumerate(variant.stops)}
    curves = [_Curve(method, style, _points(values[method])) for method, style in looks.items() if method in values]
    if not any(fits_an_axis(point.mean) for curve in curves for point in curve.points):
        return None
    most = max(point.n for curve in curves for point in curve.points)
    band = f"Mean and standard deviation over pairs and seeds, {most} segments at most" if most > 1 else "One segment"
    return Figure(
        name="pairwise_curves",
        section=f"{table.dataset}, {table.architecture}",
        title="Accuracy between two members",
        caption=f"Test accuracy of (1 − λ) θᵢ + λ θⱼ. {band}. As figures 2a and 2b of {SOURCE}.",
        columns=("method", "lambda", "accuracy", "accuracy_std", "n"),
        lines=tuple((curve.method, *point) for curve in curves for point in curve.points),
        size=(7.6, height(3.5, len(curves))),
        draw=partial(_draw, curves),
    )


def _points(by_share: dict[float, list[float]]) -> tuple[_Point, ...]:
    return tuple(_Point(share, *mean_and_std(values), len(values)) for share, values in sorted(by_share.items()))


def _draw(curves: Sequence[_Curve], canvas: Canvas) -> None:
    axes = canvas.subplots()
    handles = []
    for curve in curves:
        style = curve.look
        shares = [p.share for p in curve.points]
        means = [p.mean if fits_an_axis(p.mean) else math.nan for p in curve.points]
        (handle,) = axes.plot(shares, means, color=style.colour, marker=style.marker, linestyle=style.line, markersize=3.5)
        spread = [p.std if p.std and fits_an_axis(p.std) else 0.0 for p in curve.points]
        low, high = [m - s for m, s in zip(means, spread)], [m + s for m, s in zip(means, spread)]
        axes.fill_between(shares, low, high, color=style.colour, alpha=0.15, linewidth=0)
        handles.append(handle)
    axes.set_xlim(0, 1)
    axes.set_xlabel("λ")
    axes.set_ylabel("test accuracy (%)")
    legend(axes, handles, [label(curve.method) for curve in curves])
