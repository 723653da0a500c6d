"""Building blocks for figures: colors, curve styles, labels, legends. For authors of figures: `from harness import drawing`.

Nothing here knows what a figure shows, and importing it costs no matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.text import plain_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

INK, GREY, FAINT, ACCENT = "#222222", "#6b6b6b", "#d9d9d9", "#33658a"
"""Text, what stands back, grid lines, and the one line that matters."""

_COLORS = (ACCENT, "#c8553d", "#2a9d6f", "#8e5ea2", "#d19c1d", "#3fa7b5", "#7a5c3e", "#d4709f", "#7f8c3a", "#555555")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_LONGEST_LABEL = 48
_LARGEST = 1e100


class CurveStyle(NamedTuple):
    """Color, marker and line of a curve, as matplotlib takes them."""

    color: str
    marker: str
    line: str


def curve_style(index: int, step: int = 0) -> CurveStyle:
    """Return the style of the curve of an index: 10 colors, then the same colors with other lines; markers change with both.

    Use one index for one method in every figure. Where an index stands for several curves, `step` counts them: each is lighter
    than the one before and has another line and marker.
    """
    lap, color = divmod(index, len(_COLORS))
    marker = _MARKERS[(index + lap + step) % len(_MARKERS)]
    line = _LINES[(lap + step) % len(_LINES)]
    return CurveStyle(_lighter(_COLORS[color], min(0.6, 0.13 * step)), marker, line)


def label(text: str) -> str:
    """Return a name as a figure can show it: one line of at most 48 characters, no control characters, no underscore first.

    matplotlib leaves out of a legend what begins with an underscore.
    """
    clean = plain_line(text)
    if len(clean) > _LONGEST_LABEL:
        clean = f"{clean[: _LONGEST_LABEL - 1]}…"
    return f" {clean}" if clean.startswith("_") else clean


def height(least: float, labels: int) -> float:
    """Return the height, in inches, of a plot whose legend at the right holds so many labels."""
    return max(least, 0.75 + 0.18 * labels)


def fits_an_axis(value: float) -> bool:
    """Say whether an axis can show a number: finite, and not so large that sums of such numbers overflow."""
    return math.isfinite(value) and abs(value) < _LARGEST


def legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend at the right of the axes."""
    axes.legend(handles, list(labels), loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0, handlelength=1.8)


def whole_number_ticks(axes: Axes) -> None:
    """Put the ticks of the horizontal axis at whole numbers: epochs, members."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _lighter(color: str, share: float) -> str:
    """Return a color with a share of white in it."""
    mixed = "#"
    for start in (1, 3, 5):
        part = int(color[start : start + 2], 16)
        mixed += f"{round(part + share * (255 - part)):02x}"
    return mixed
