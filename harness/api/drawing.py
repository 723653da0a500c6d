"""Colors, curve styles, labels and legends for authors of figures: `from harness import drawing`.

Importing this module does not import matplotlib.
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
"""Colors of text, of secondary elements, of grid lines, and of the most important line."""

_COLORS = (ACCENT, "#c8553d", "#2a9d6f", "#8e5ea2", "#d19c1d", "#3fa7b5", "#7a5c3e", "#d4709f", "#7f8c3a", "#555555")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_LONGEST_LABEL = 48
_LARGEST = 1e100


class CurveStyle(NamedTuple):
    """Color, marker and line style of a curve, as matplotlib's `plot` accepts them."""

    color: str
    marker: str
    line: str


def curve_style(index: int, step: int = 0) -> CurveStyle:
    """Return the style of a curve. Indices 0 to 9 have 10 colors; higher ones repeat the colors with other line styles.

    Markers differ between neighboring indices. Use the same index for a method in every figure. If a method has several
    curves, number them with `step`: each is lighter than the one before and has another line style and marker.
    """
    lap, color = divmod(index, len(_COLORS))
    marker = _MARKERS[(index + lap + step) % len(_MARKERS)]
    line = _LINES[(lap + step) % len(_LINES)]
    return CurveStyle(_lighter(_COLORS[color], min(0.6, 0.13 * step)), marker, line)


def label(text: str) -> str:
    """Return a name for a figure: one line of at most 48 characters without control characters.

    A leading underscore gets a space before it, since matplotlib omits labels with a leading underscore from legends.
    """
    clean = plain_line(text)
    if len(clean) > _LONGEST_LABEL:
        clean = f"{clean[: _LONGEST_LABEL - 1]}…"
    return f" {clean}" if clean.startswith("_") else clean


def height(least: float, labels: int) -> float:
    """Return the height in inches of a plot with a legend of `labels` lines at its right; at least `least`."""
    return max(least, 0.75 + 0.18 * labels)


def fits_an_axis(value: float) -> bool:
    """Return whether an axis can show a number: it is finite, and sums of such numbers do not overflow (below 1e100)."""
    return math.isfinite(value) and abs(value) < _LARGEST


def legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend at the right of the axes."""
    axes.legend(handles, list(labels), loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0, handlelength=1.8)


def whole_number_ticks(axes: Axes) -> None:
    """Put the ticks of the horizontal axis at integers, for epochs or members."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _lighter(color: str, share: float) -> str:
    """Return a color (`#rrggbb`) mixed with white; `share` of white is from 0 to 1."""
    mixed = "#"
    for start in (1, 3, 5):
        part = int(color[start : start + 2], 16)
        mixed += f"{round(part + share * (255 - part)):02x}"
    return mixed
