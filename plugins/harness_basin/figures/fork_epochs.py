"""Diversity and connectivity against the fork epoch t (paper, figure 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness import Figure, FigureData, Plot, drawing, leaderboard
from harness_basin.figures.method_curves import (
    FORK_EPOCH,
    SOURCE,
    MethodCurve,
    drawable,
    entries,
    method_curves,
    seeds_shown,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_METRICS = ("predictive_variance", "jensen_shannon_divergence", "joint_connectivity")
"""The metrics of the panels."""


@dataclass(frozen=True)
class _Curve:
    """The values of a metric along a curve of methods. `points` are (t, method, entry) in order of t."""

    metric: str
    label: str
    style: drawing.CurveStyle
    points: tuple[tuple[int, str, leaderboard.Entry], ...]

    @property
    def drawable(self) -> list[tuple[int, float, float]]:
        """(t, mean, standard deviation) of the points that an axis can show."""
        found = []
        for t, _, entry in self.points:
            shown = drawable(entry)
            if shown is not None:
                found.append((t, *shown))
        return found


class ForkEpochs(Figure):
    """Diversity and connectivity against t, for methods that differ only in their option `fork_epoch` (paper, figure 3)."""

    name, version = "fork_epochs", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none if no method was measured at several fork epochs."""
        curves = _curves(data)
        if not curves:
            return
        panels = len({curve.metric for curve in curves})
        labels = len({curve.label for curve in curves})
        yield Plot(
            title="Diversity and connectivity against the fork epoch",
            caption=f"t is the number of epochs that the members share. {seeds_shown(data.table)} "
            f"From the rows {', '.join(_METRICS)}. As figure 3 of {SOURCE}.",
            columns=("metric", "curve", "method", FORK_EPOCH, "mean", "std", "n"),
            records=_records(curves),
            paint=partial(_paint, curves, {metric: drawing.metric_label(data.table, metric) for metric in _METRICS}),
            size=(2.9 * panels + 1.1, drawing.height(2.9, labels)),
        )


def _curves(data: FigureData) -> list[_Curve]:
    """Return the curves with at least one point that an axis can show, metric by metric."""
    known = entries(data.table)
    of_methods = [curve for curve in method_curves(data) if curve.has_several_fork_epochs]
    found = []
    for metric in _METRICS:
        for methods in of_methods:
            curve = _curve(metric, methods, known)
            if curve.drawable:
                found.append(curve)
    return found


def _curve(metric: str, curve: MethodCurve, known: Mapping[tuple[str, str], leaderboard.Entry]) -> _Curve:
    points = []
    for t, method in curve.methods:
        entry = known.get((method, metric))
        if t is not None and entry is not None:
            points.append((t, method, entry))
    return _Curve(metric, curve.label, curve.style, tuple(points))


def _records(curves: Sequence[_Curve]) -> tuple[tuple[object, ...], ...]:
    records = []
    for curve in curves:
        for t, method, entry in curve.points:
            records.append((curve.metric, curve.label, method, t, entry.mean, entry.std, entry.n))
    return tuple(records)


def _paint(curves: Sequence[_Curve], titles: Mapping[str, str], canvas: Canvas) -> None:
    panels = list(dict.fromkeys(curve.metric for curve in curves))
    all_axes = drawing.panels(canvas, len(panels))
    handles: dict[str, Artist] = {}
    for axes, metric in zip(all_axes, panels):
        for curve in curves:
            if curve.metric == metric:
                handles.setdefault(curve.label, _line(axes, curve))
        axes.set_title(titles[metric])
        axes.set_xlabel("Fork epoch, t")
        drawing.whole_number_ticks(axes)
    drawing.legend(all_axes[-1], list(handles.values()), [drawing.label(name) for name in handles])


def _line(axes: Axes, curve: _Curve) -> Artist:
    style = curve.style
    t, means, stds = (list(values) for values in zip(*curve.drawable))
    drawn = axes.errorbar(t, means, stds, color=style.color, marker=style.marker, linestyle=style.line, elinewidth=0.9)
    return drawn[0]
