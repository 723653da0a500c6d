"""Colors and curve styles of figures. Importing this module does not import matplotlib.

The colors are those of Okabe and Ito (2008) and of Tol (2021), some of them darker, so that each has a contrast of at least 3:1
with a white page (WCAG 2.2, 1.4.11). The tests measure their distances under simulated color blindness.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

INK, GREY, FAINT, ACCENT = "#222222", "#6b6b6b", "#d9d9d9", "#005f96"
"""Colors of text, of secondary elements, of grid lines, and of the most important line."""

COLORS = (ACCENT, "#a3290e", "#1e9be2", "#999933", "#882255", "#ee6677", "#cc79a7", "#000000")
"""Colors of curves, which people with any kind of color blindness can tell apart."""

SEQUENTIAL = "viridis"
"""The color map of values in a plane, in the manner of `matplotlib.colormaps`. Its lightness rises with the value."""

_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_SALT = 472995  # of the hash; with it, no two of the common names of methods have the same color and line
_VARIANT = re.compile(r"[(\[,]")  # a name with options: distilled(beta=0.2), or "distilled, beta = 0.2"


class CurveStyle(NamedTuple):
    """Color, marker and line style of a curve, as matplotlib's `plot` accepts them."""

    color: str
    marker: str
    line: str


def method_style(name: str) -> CurveStyle:
    """Return the style of a method, a function of its name alone: equal in every figure and report.

    Names that differ only in options, in brackets or after a comma, have the same color; line and marker differ in most cases.
    """
    method = _VARIANT.split(name)[0].strip()
    color = COLORS[_digest(method)[0] % len(COLORS)]
    variant = _digest(name.strip())
    return CurveStyle(color, _MARKERS[variant[2] % len(_MARKERS)], _LINES[variant[1] % len(_LINES)])


def curve_style(index: int, step: int = 0) -> CurveStyle:
    """Return the style of the curve `index` of a figure whose curves are no methods. Indices 0 to 7 have different colors.

    Higher ones repeat the colors with other line styles. Markers differ between neighboring indices. If a thing has several
    curves, number them with `step`: each is lighter than the one before and has another line style and marker.
    """
    return _stepped(CurveStyle(COLORS[index % len(COLORS)], _MARKERS[0], _LINES[0]), step, *_shift(index))


def _stepped(style: CurveStyle, step: int, marker: int = 0, line: int = 0) -> CurveStyle:
    """Return the style of the curve `step` (from 0) of a method that has several: lighter, with another line and marker."""
    marker += _MARKERS.index(style.marker) + step
    line += _LINES.index(style.line) + step
    color = _lighter(style.color, min(0.6, 0.13 * step))
    return CurveStyle(color, _MARKERS[marker % len(_MARKERS)], _LINES[line % len(_LINES)])


def _shift(index: int) -> tuple[int, int]:
    """Return the numbers of a curve's marker and line style."""
    lap = index // len(COLORS)
    return index + lap, lap


def _digest(text: str) -> bytes:
    """Return bytes that depend on a text alone. Python's own hash differs between processes."""
    return hashlib.sha256(f"{_SALT} {text}".encode("utf-8", "surrogatepass")).digest()


def _lighter(color: str, share: float) -> str:
    """Return a color (`#rrggbb`) mixed with white; `share` of white is from 0 to 1."""
    mixed = "#"
    for start in (1, 3, 5):
        part = int(color[start : start + 2], 16)
        mixed += f"{round(part + share * (255 - part)):02x}"
    return mixed
