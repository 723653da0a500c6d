"""Accuracy and loss on the plane through three members, with one panel per method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness import Figure, FigureData, Plot, drawing
from harness_metrics.figures.heat import color_bar, filled_contours, panel_grid
from harness_metrics.figures.places import MOST_PANELS, Place, values_by_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_HEADINGS = {"accuracy": "Test accuracy (%)", "loss": "Test loss (nats)"}
_MEMBER_NAMES = ("θ₁", "θ₂", "θ₃")


@dataclass(frozen=True)
class _Plane:
    """The values of one ensemble on its plane. `corners` are the members' positions (3, 2), in weight distance.

    `horizontal` and `vertical` are the grid's coordinates there, `values` (vertical, horizontal), NaN where there is none.
    """

    method: str
    seed: int
    corners: np.ndarray
    horizontal: np.ndarray
    vertical: np.ndarray
    values: np.ndarray


class LossPlaneFigure(Figure):
    """Accuracy and loss on the plane through three members: rows of the metric `loss_plane` (Garipov et al. 2018, figure 1)."""

    name, version = "loss_plane", 1

    def draw(self, data: FigureData) -> Iterable[Plot]:
        """Yield a plot of the accuracy and one of the loss, or none without such rows."""
        for quantity, heading in _HEADINGS.items():
            planes = _planes(data, quantity)
            drawable = [plane for plane in planes if np.isfinite(plane.values).any()]
            if not drawable:
                continue
            shown = drawable[:MOST_PANELS]
            yield Plot(
                title=f"{heading.partition(' (')[0]} on the plane through three members",
                caption=_caption(quantity, shown, drawable),
                columns=("method", "seed", "x", "y", quantity),
                records=_records(planes),
                paint=partial(_paint, shown, heading, quantity),
                size=panel_grid(len(shown)),
            )


def _planes(data: FigureData, quantity: str) -> list[_Plane]:
    """Return the plane of each method's first seed."""
    x = values_by_place(data, "loss_plane_x", 1)
    y = values_by_place(data, "loss_plane_y", 1)
    planes = []
    for method, by_seed in values_by_place(data, f"loss_plane_{quantity}", 2).items():
        seed = min(by_seed)
        corners = _corners(x.get(method, {}).get(seed, {}), y.get(method, {}).get(seed, {}))
        if corners is not None:
            planes.append(_plane(method, seed, corners, by_seed[seed]))
    return planes


def _corners(x: Mapping[Place, float], y: Mapping[Place, float]) -> np.ndarray | None:
    """Return the members' positions (3, 2); None if one is missing or the triangle has no area that an axis can show."""
    corners = np.full((3, 2), np.nan)
    for index in range(3):
        corners[index] = x.get((index,), np.nan), y.get((index,), np.nan)
    if not all(drawing.fits_an_axis(float(value)) for value in corners.ravel()):
        return None
    if (np.ptp(corners, axis=0) <= 0).any():
        return None
    return corners


def _plane(method: str, seed: int, corners: np.ndarray, values: Mapping[Place, float]) -> _Plane:
    horizontal = sorted({place[0] for place in values})
    vertical = sorted({place[1] for place in values})
    table = np.full((len(vertical), len(horizontal)), np.nan)
    for (across, up), value in values.items():
        if drawing.fits_an_axis(value):
            table[vertical.index(up), horizontal.index(across)] = value
    low = corners.min(axis=0)
    extent = np.ptp(corners, axis=0)
    return _Plane(
        method,
        seed,
        corners,
        low[0] + extent[0] * np.array(horizontal),
        low[1] + extent[1] * np.array(vertical),
        table,
    )


def _records(planes: Sequence[_Plane]) -> tuple[tuple[object, ...], ...]:
    records = []
    for plane in planes:
        for y, line in zip(plane.vertical, plane.values):
            for x, value in zip(plane.horizontal, line):
                shown = float(value) if np.isfinite(value) else None
                records.append((plane.method, plane.seed, float(x), float(y), shown))
    return tuple(records)


def _caption(quantity: str, shown: Sequence[_Plane], every: Sequence[_Plane]) -> str:
    seeds = sorted({plane.seed for plane in shown})
    listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"the first seed of each method ({', '.join(map(str, seeds))})"
    sentences = [
        f"Test {quantity} of the network at each point of the plane through three members' weights, of {listed}; one ensemble, "
        "so no error bars. Axes are distances in weight space; dots are the members, whose triangle is the simplex."
    ]
    if quantity == "loss":
        sentences.append("Colors are on a logarithmic scale.")
    sentences.append(drawing.first_of(len(shown), len(every)))
    sentences.append(f"From the rows loss_plane_{quantity}. After figure 1 of Garipov et al. 2018.")
    return " ".join(filter(None, sentences))


def _paint(planes: Sequence[_Plane], heading: str, quantity: str, canvas: Canvas) -> None:
    every = drawing.panels(canvas, len(planes), columns=4)
    values = np.concatenate([plane.values[np.isfinite(plane.values)] for plane in planes])
    drawn = None
    for axes, plane in zip(every, planes):
        mesh = np.meshgrid(plane.horizontal, plane.vertical)
        drawn = filled_contours(axes, mesh[0], mesh[1], plane.values, values, logarithmic=quantity == "loss") or drawn
        _members(axes, plane)
        axes.set_title(drawing.label(plane.method, 24))
        axes.set_aspect("equal", adjustable="box")
        axes.grid(visible=False)
    color_bar(canvas, every, drawn, heading)


def _members(axes: Axes, plane: _Plane) -> None:
    """Mark the three members and their triangle."""
    closed = np.vstack([plane.corners, plane.corners[:1]])
    axes.plot(closed[:, 0], closed[:, 1], color="white", linewidth=0.8, linestyle="--")
    axes.plot(plane.corners[:, 0], plane.corners[:, 1], color=drawing.INK, marker="o", markeredgecolor="white", linestyle="")
    middle = plane.corners.mean(axis=0)
    for name, corner in zip(_MEMBER_NAMES, plane.corners):
        away = np.sign(corner - middle)
        text = axes.annotate(
            name, tuple(corner), tuple(7 * away), textcoords="offset points", ha="center", va="center", fontsize=8
        )
        text.set_bbox({"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8})
