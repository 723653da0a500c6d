"""The barrier between each pair of members, as a matrix per method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness import Figure, FigureData, Plot, drawing
from harness_metrics.figures.heat import color_bar, panel_grid, scale
from harness_metrics.figures.places import MOST_PANELS, BySeed, Place, seeds_sentence, values_by_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MOST_MEMBERS = 100
_MOST_NUMBERS = 8  # members up to which a matrix has its numbers written in it

Pair = tuple[int, int]


class PairwiseBarriers(Figure):
    """The barrier of accuracy between each pair of members: rows `pairwise_curve/<i>-<j>/<λ>` of `pairwise_connectivity`."""

    name, version = "pairwise_barriers", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield one plot, or none if no pair has both ends of its curve."""
        curves = values_by_place(data, "pairwise_curve", 3)
        matrices = {method: _barriers(by_seed) for method, by_seed in curves.items()}
        matrices = {method: found for method, found in matrices.items() if found}
        if not matrices:
            return
        shown = list(matrices)[:MOST_PANELS]
        records = []
        for method, found in matrices.items():
            records += [(method, i, j, sum(values) / len(values), len(values)) for (i, j), values in found.items()]
        seeds = seeds_sentence({method: curves[method] for method in matrices})
        sentences = [
            "The barrier of a pair is the largest drop of the test accuracy on the segment between two members below the line "
            f"between their accuracies. {seeds}",
            drawing.first_of(len(shown), len(matrices)),
            "From the rows pairwise_curve.",
        ]
        yield Plot(
            title="Barriers between pairs of members",
            caption=" ".join(filter(None, sentences)),
            columns=("method", "member_i", "member_j", "barrier", "seeds"),
            records=tuple(records),
            paint=partial(_paint, {method: matrices[method] for method in shown}),
            size=panel_grid(len(shown)),
        )


def _barriers(by_seed: BySeed) -> dict[Pair, list[float]]:
    """Return the barrier of each pair in each seed, in percent, of curves whose values an axis can show."""
    found: dict[Pair, list[float]] = {}
    for places in by_seed.values():
        for pair, curve in _curves(places).items():
            ends = curve.get(0.0), curve.get(1.0)
            if ends[0] is None or ends[1] is None or not all(map(drawing.fits_an_axis, curve.values())):
                continue
            drops = [(1 - share) * ends[0] + share * ends[1] - accuracy for share, accuracy in curve.items()]
            found.setdefault(pair, []).append(max(0.0, *drops))
    return found


def _curves(places: Mapping[Place, float]) -> dict[Pair, dict[float, float]]:
    """Return the accuracy by λ of each pair of different members."""
    curves: dict[Pair, dict[float, float]] = {}
    for (i, j, share), accuracy in places.items():
        valid = i.is_integer() and j.is_integer() and 0 <= i < j < _MOST_MEMBERS
        if valid:
            curves.setdefault((int(i), int(j)), {})[share] = accuracy
    return curves


def _paint(matrices: Mapping[str, Mapping[Pair, list[float]]], canvas: Canvas) -> None:
    every = drawing.panels(canvas, len(matrices), columns=4)
    tables = [_table(found) for found in matrices.values()]
    values = np.concatenate([table[np.isfinite(table)] for table in tables] + [np.zeros(1)])
    drawn = None
    for axes, method, table in zip(every, matrices, tables):
        edges = np.arange(len(table) + 1) - 0.5
        cells = np.ma.masked_invalid(table)  # drawn as paths: pages allow no images
        drawn = axes.pcolormesh(edges, edges, cells, cmap=f"{drawing.SEQUENTIAL}_r", norm=scale(values))
        axes.set_aspect("equal")
        axes.invert_yaxis()
        _numbers(axes, table, scale(values), 0 if drawing.is_narrow(canvas) else 1)
        axes.set_title(drawing.label(method, 24))
        axes.grid(visible=False)
        ticks = list(range(0, len(table), 1 + len(table) // 10))
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.set_xlabel("Member")
        axes.set_ylabel("Member")
    color_bar(canvas, every, drawn, "Barrier of accuracy (%)")


def _table(found: Mapping[Pair, list[float]]) -> np.ndarray:
    """Return the mean barriers over seeds (members, members), symmetric; NaN on the diagonal and for pairs without any."""
    members = 1 + max(j for _, j in found)
    table = np.full((members, members), np.nan)
    for (i, j), values in found.items():
        table[i, j] = table[j, i] = sum(values) / len(values)
    return table


def _numbers(axes: Axes, table: np.ndarray, norm: object, decimals: int) -> None:
    """Write the barriers of a small matrix in its cells, white on dark colors."""
    if len(table) > _MOST_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            share = float(norm(value)) / 255  # type: ignore[operator]  # a matplotlib norm
            color = "white" if share > 0.5 else drawing.INK
            axes.text(column, row, f"{value:.{decimals}f}", ha="center", va="center", fontsize=7.5, color=color)
