"""Diversity and connectivity against t, the epoch at which members part (paper, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.leaderboard import Entry, Table
from harness.report.drawing import SOURCE, Figure, height, label, legend, look, whole_epochs
from harness.report.variants import FORK_EPOCH, Variant, drawable, entries

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

METRICS = {
    "predictive_variance": "predictive variance",
    "jensen_shannon_divergence": "Jensen–Shannon divergence (nats)",
    "joint_connectivity": "joint connectivity (%)",
}
"""Metric → how its axis is labelled, a panel each."""


@dataclass(frozen=True)
class _Curve:
    """A metric of a variant: (t, method, entry) in order of t. `index` decides how it looks."""

    metric: str
    label: str
    index: int
    points: tuple[tuple[int, str, Entry], ...]

    @property
    def drawable(self) -> list[tuple[int, float, float]]:
        """(t, mean, standard deviation) of the points that can be drawn."""
        found = ((t, drawable(entry)) for t, _, entry in self.points)
        return [(t, *mean) for t, mean in found if mean is not None]


def fork_epochs(table: Table, variants: Sequence[Variant]) -> Figure | None:
    """Return the figure of a table; None where no method was measured at several fork epochs."""
    known = entries(table)
    curves = [_curve(metric, variant, known) for metric in METRICS for variant in variants if variant.is_curve]
    curves = [curve for curve in curves if curve.drawable]
    if not curves:
        return None
    panels = list(dict.fromkeys(curve.metric for curve in curves))
    n = len(table.seeds)
    bars = f"Mean and standard deviation over {n} seeds." if n > 1 else "One seed, so no spread."
    return Figure(
        name="fork_epochs",
        section=f"{table.dataset}, {table.architecture}",
        title="Diversity and connectivity against the fork epoch",
        caption=f"t is the number of epochs that the members share. {bars} As figure 3 of {SOURCE}.",
        columns=("metric", "curve", "method", FORK_EPOCH, "mean", "std", "n"),
        lines=tuple((c.metric, c.label, method, t, e.mean, e.std, e.n) for c in curves for t, method, e in c.points),
        size=(2.9 * len(panels) + 1.1, height(2.9, len({curve.label for curve in curves}))),
        draw=partial(_draw, curves, panels),
    )


def _curve(metric: str, variant: Variant, known: dict[tuple[str, str], Entry]) -> _Curve:
    found = ((stop.fork_epoch, stop.method, known.get((stop.method, metric))) for stop in variant.stops)
    points = tuple((t, method, entry) for t, method, entry in found if t is not None and entry is not None)
    return _Curve(metric, variant.label, variant.index, points)


def _draw(curves: Sequence[_Curve], panels: Sequence[str], canvas: Canvas) -> None:
    all_axes = canvas.subplots(1, len(panels), squeeze=False)[0]
    handles: dict[str, Artist] = {}
    for axes, metric in zip(all_axes, panels):
        for curve in curves:
            if curve.metric == metric:
                handles.setdefault(curve.label, _line(axes, curve))
        axes.set_title(METRICS[metric])
        axes.set_xlabel("t (epochs)")
        whole_epochs(axes)
    legend(all_axes[-1], list(handles.values()), [label(name) for name in handles])


def _line(axes: Axes, curve: _Curve) -> Artist:
    style = look(curve.index)
    t, means, spreads = (list(values) for values in zip(*curve.drawable))
    drawn = axes.errorbar(t, means, spreads, color=style.colour, marker=style.marker, linestyle=style.line, elinewidth=0.9)
    return drawn[0]
