"""q over the simplex: a ternary map per method for three members, and q against the largest weight for more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness import Figure, FigureData, Plot, drawing
from harness_metrics.figures.heat import color_bar, levels, panel_grid, scale
from harness_metrics.figures.places import (
    MOST_PANELS,
    BySeed,
    Place,
    mean_over_seeds,
    seeds_sentence,
    values_by_place,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.5, math.sqrt(3) / 2))
_NAMES = ("θ₁", "θ₂", "θ₃")
_Q = "Connectivity at a point, q (%)"
_DEFINITION = "q(λ) is the test accuracy at Σ λᵢθᵢ minus Σ λᵢ times that of member i: 0 at the members, below 0 at a barrier."


class SimplexMapFigure(Figure):
    """q over the simplex of an ensemble: rows of the metric `simplex_map`."""

    name, version = "simplex_map", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield a ternary map for ensembles of three, and q against max λ for those of another size, where there are any."""
        by_method = values_by_place(data, "simplex_map_q")
        maps: dict[str, dict[Place, float]] = {}
        draws: dict[str, BySeed] = {}
        for method, by_seed in by_method.items():
            sizes = {len(place) for place, _ in _values(by_seed)}
            if sizes == {3}:
                maps[method] = mean_over_seeds(by_seed)
            elif min(sizes) > 1:
                draws[method] = by_seed
        maps = {method: values for method, values in maps.items() if len(values) > 2}
        if maps:
            yield _ternary_plot(maps, by_method)
        if any(_has_drawable(by_seed) for by_seed in draws.values()):
            yield _draws_plot(draws)


def _values(by_seed: BySeed) -> Iterator[tuple[Place, float]]:
    """Yield each place with its value, seed by seed."""
    for places in by_seed.values():
        yield from places.items()


def _has_drawable(by_seed: BySeed) -> bool:
    """Return whether an axis can show any of the values."""
    return any(drawing.fits_an_axis(q) for _, q in _values(by_seed))


def _ternary_plot(maps: Mapping[str, Mapping[Place, float]], by_method: Mapping[str, BySeed]) -> Plot:
    shown = list(maps)[:MOST_PANELS]
    records = []
    for method, values in maps.items():
        records += [(method, *place, value, len(by_method[method])) for place, value in values.items()]
    seeds = seeds_sentence({method: by_method[method] for method in maps})
    sentences = [_DEFINITION, f"A corner is a member, an edge a pair. {seeds}", drawing.first_of(len(shown), len(maps))]
    sentences.append("From the rows simplex_map_q.")
    return Plot(
        title="Connectivity over the simplex of three members",
        caption=" ".join(filter(None, sentences)),
        columns=("method", "lambda_1", "lambda_2", "lambda_3", "q", "seeds"),
        records=tuple(records),
        paint=partial(_paint_maps, {method: maps[method] for method in shown}),
        size=panel_grid(len(shown)),
    )


def _draws_plot(draws: Mapping[str, BySeed]) -> Plot:
    records = []
    for method, by_seed in draws.items():
        for seed, places in by_seed.items():
            records += [(method, seed, max(place), q) for place, q in places.items()]
    shown = dict(list(draws.items())[: drawing.MOST_LABELS])
    omitted = drawing.first_of(len(shown), len(draws))
    if omitted:
        omitted += " "
    seeds = len(set().union(*draws.values()))
    noun = "one seed" if seeds == 1 else f"{seeds} seeds"
    return Plot(
        title="Connectivity against the largest weight",
        caption=f"{_DEFINITION} A dot per draw λ, of {noun}; at the left all members have a similar weight, at the right "
        f"one member has nearly all of it. {omitted}From the rows simplex_map_q.",
        columns=("method", "seed", "largest_weight", "q"),
        records=tuple(records),
        paint=partial(_paint_draws, shown),
        size=(7.6, drawing.height(3.5, len(shown))),
    )


def _paint_maps(maps: Mapping[str, Mapping[Place, float]], canvas: Canvas) -> None:
    every = drawing.panels(canvas, len(maps), columns=4)
    values = np.concatenate([np.array(list(by_place.values())) for by_place in maps.values()])
    drawn = None
    for axes, (method, by_place) in zip(every, maps.items()):
        drawn = _map(axes, by_place, values)
        axes.set_title(drawing.label(method, 24))
    color_bar(canvas, every, drawn, _Q)


def _map(axes: Axes, by_place: Mapping[Place, float], values: np.ndarray) -> object:
    """Draw a ternary map; λ is at the position Σ_i λ_i corner_i."""
    positions = np.array(list(by_place)) @ np.array(_CORNERS)
    q = np.array(list(by_place.values()))
    if _is_flat(positions):
        drawn: object = axes.scatter(positions[:, 0], positions[:, 1], c=q, cmap=drawing.SEQUENTIAL, norm=scale(values))
    else:
        bounds = levels(values)
        x, y = positions.T
        drawn = axes.tricontourf(
            x, y, np.clip(q, bounds[0], bounds[-1]), levels=bounds, cmap=drawing.SEQUENTIAL, norm=scale(values)
        )
    for name, (x_corner, y_corner), below in zip(_NAMES, _CORNERS, (True, True, False)):
        vertical = "top" if below else "bottom"
        axes.annotate(name, (x_corner, y_corner), (0, -3 if below else 3), textcoords="offset points", ha="center", va=vertical)
    axes.set_aspect("equal")
    axes.set_xlim(-0.08, 1.08)
    axes.set_ylim(-0.14, 1.0)
    axes.set_axis_off()
    return drawn


def _is_flat(positions: np.ndarray) -> bool:
    """Return whether positions (points, 2) are on one line, so that they form no triangles."""
    return bool(np.linalg.matrix_rank(positions - positions[0], tol=1e-9) < 2)


def _paint_draws(draws: Mapping[str, BySeed], canvas: Canvas) -> None:
    axes = canvas.subplots()
    handles = []
    for method, by_seed in draws.items():
        style = drawing.method_style(method)
        points: list[Sequence[float]] = []
        for places in by_seed.values():
            points += [(max(place), q) for place, q in places.items() if drawing.fits_an_axis(q)]
        x, y = np.array(points or [(math.nan, math.nan)]).T
        handles += axes.plot(x, y, color=style.color, marker=style.marker, linestyle="", markersize=3.5, alpha=0.7)
    axes.axhline(0.0, color=drawing.GREY, linewidth=0.9, zorder=1)
    axes.set_xlabel("Largest weight of a member, max λ")
    axes.set_ylabel(_Q)
    drawing.legend(axes, handles, [drawing.label(method) for method in draws])
