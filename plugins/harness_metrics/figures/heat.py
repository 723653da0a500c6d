"""Panels of colored values with one scale: planes, ternary maps and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_LEVELS = 12
_LARGEST_RATIO = 1e3  # of the highest to the lowest level of a logarithmic scale


def panel_grid(panels: int) -> tuple[float, float]:
    """Return the size in inches of a picture of square panels, at most four side by side, and a color bar."""
    across = min(panels, 4)
    rows = -(-panels // 4)
    return 2.2 * across + 1.0, 2.3 * rows + 0.4


def levels(values: np.ndarray, *, logarithmic: bool = False) -> list[float]:
    """Return the levels between the colors of a scale for finite values, at least one: ascending and different."""
    low, high = float(values.min()), float(values.max())
    if logarithmic and low > 0:
        high = min(high, low * _LARGEST_RATIO)
        if high > low * 1.01:
            steps = np.linspace(math.log(low), math.log(high), _LEVELS + 1)
            return [float(level) for level in np.exp(steps)]
    if high - low < 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    from matplotlib.ticker import MaxNLocator

    return [float(level) for level in MaxNLocator(_LEVELS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


def scale(values: np.ndarray, *, logarithmic: bool = False) -> Any:
    """Return the color of each value, as a matplotlib norm. Values beyond the last level have its color."""
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(levels(values, logarithmic=logarithmic), mpl.colormaps[drawing.SEQUENTIAL].N, clip=True)


def filled_contours(
    axes: Axes, x: np.ndarray, y: np.ndarray, z: np.ndarray, values: np.ndarray, *, logarithmic: bool = False
) -> Any:
    """Draw a table z (rows, columns) at x and y of the same shape, in the colors of a scale for `values`.

    Return what a color bar needs; None if fewer than two rows or columns can be drawn.
    """
    if min(z.shape) < 2:
        return None
    shown = levels(values, logarithmic=logarithmic)
    clipped = np.ma.masked_invalid(np.clip(z, shown[0], shown[-1]))
    return axes.contourf(x, y, clipped, levels=shown, cmap=drawing.SEQUENTIAL, norm=scale(values, logarithmic=logarithmic))


def color_bar(canvas: Canvas, axes: Sequence[Axes], drawn: Any, heading: str) -> None:
    """Put a color bar with this heading at the right of all panels, or below them in a narrow picture."""
    if drawn is None:
        return
    narrow = drawing.is_narrow(canvas)
    location = "bottom" if narrow else "right"
    bar = canvas.colorbar(drawn, ax=list(axes), location=location, fraction=0.06, pad=0.02, label=heading)
    bounds = list(drawn.norm.boundaries)
    ticks = bounds[:: 4 if narrow else 2]
    bar.set_ticks(ticks, labels=[f"{tick:.3g}".replace("-", "−") for tick in ticks])
    bar.ax.minorticks_off()
