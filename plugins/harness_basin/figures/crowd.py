"""Points that crowd near a connectivity of 0, and the inset that shows them larger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEAR = 2.0
"""Percent of connectivity around 0 in which points crowd, if others are ten times as far away."""

_INSET_SIZE = (0.4, 0.44)
"""Width and height of the inset, in fractions of the axes."""


class Crowd(NamedTuple):
    """The range of points: lowest and highest connectivity, lowest and highest accuracy."""

    left: float
    right: float
    bottom: float
    top: float


def crowded(points: Sequence[tuple[float, float]]) -> Crowd | None:
    """Return the range of the points that crowd near a connectivity of 0; None if they can be told apart as they are.

    A crowd is of at least two points within ±`NEAR` percent, if others are more than ten times as far away.
    """
    near = [point for point in points if abs(point[0]) <= NEAR]
    if len(near) < 2 or max(abs(x) for x, _ in points) < 10 * NEAR:
        return None
    x, y = zip(*near)
    return Crowd(min(x), max(x), min(y), max(y))


def magnify(axes: Axes, crowd: Crowd, covered: Sequence[tuple[float, float]]) -> Axes:
    """Return the empty axes of an inset with the range of a crowd, where it covers the fewest of the given positions.

    The positions are in data coordinates. The limits of the axes must not change afterwards.
    """
    inset = axes.inset_axes((*_emptiest(axes, covered), *_INSET_SIZE))
    for low, high, set_limits in ((*crowd[:2], inset.set_xlim), (*crowd[2:], inset.set_ylim)):
        margin = max(0.3 * (high - low), 0.15)
        set_limits(low - margin, high + margin)
    inset.tick_params(labelsize=7.0)
    axes.indicate_inset_zoom(inset, edgecolor=drawing.GREY)
    return inset


def _emptiest(axes: Axes, covered: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the lower left corner of the inset that covers the fewest positions, in fractions of the axes."""
    axes.autoscale_view()  # the transform needs the limits
    fractions = (axes.transData + axes.transAxes.inverted()).transform(covered)
    width, height = _INSET_SIZE
    best = (math.inf, 0.0, 0.0)
    for bottom in (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        for left in (0.3, 0.35, 0.4, 0.45, 0.25, 0.2, 0.5, 0.15, 0.1):
            across = (fractions[:, 0] > left - 0.08) & (fractions[:, 0] < left + width + 0.02)
            up = (fractions[:, 1] > bottom - 0.1) & (fractions[:, 1] < bottom + height + 0.03)
            best = min(best, (float((across & up).sum()), left, bottom), key=lambda found: found[0])
    return best[1], best[2]
