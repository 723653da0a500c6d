"""Width and font of figures for papers. Importing this module does not import matplotlib."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError, did_you_mean
from harness.text import plain_line

FAMILIES = ("sans-serif", "serif", "monospace")
"""The generic font families. matplotlib brings a font for each, so they look the same everywhere."""

_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
"""Inches per unit. `pt` is TeX's point, in which LaTeX prints `\\columnwidth`."""

_WIDTH = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(in|cm|mm|pt)\s*")
_LEAST, _MOST = 1.5, 60.0  # inches
_LARGE_TYPE, _SMALL_TYPE = 9.0, 8.0  # points; the letters of a page, and of a column of a paper
_FLATTEST = 0.62  # the least height of a narrow picture, as a fraction of its width
_COLUMN = 5.0  # inches; narrower pictures stand in a column of a paper


@dataclass(frozen=True)
class PrintStyle:
    """How figures are printed. `width` is in inches (None: each figure's own), `font` a family (empty: the report's)."""

    width: float | None = None
    font: str = ""

    def size(self, own: tuple[float, float]) -> tuple[float, float]:
        """Return the width and height in inches of a plot of its own size; the paint function may make it higher."""
        if self.width is None:
            return own
        height = own[1] * self.width / own[0]
        if self.width < _COLUMN:
            height = max(height, _FLATTEST * self.width)
        return self.width, height

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings of matplotlib that differ from the report's."""
        changes: dict[str, Any] = {}
        if self.font in FAMILIES:
            changes["font.family"] = [self.font]
        elif self.font:
            changes["font.family"] = [self.font, "DejaVu Sans"]  # the latter has letters that the first may lack
        if self.width is not None and self.width < _COLUMN:
            small = _SMALL_TYPE - 0.5
            changes |= {"font.size": _SMALL_TYPE, "axes.labelsize": _SMALL_TYPE, "axes.titlesize": _SMALL_TYPE}
            changes |= {"xtick.labelsize": small, "ytick.labelsize": small, "legend.fontsize": small}
            changes |= {"lines.linewidth": 1.1, "lines.markersize": 3.5}
        return changes


SCREEN = PrintStyle()
"""Figures of the page."""


def parse_width(text: str) -> float:
    """Return a width such as `3.25in` in inches. Raise `UserError` for anything else, and for widths out of range."""
    found = _WIDTH.fullmatch(text)
    if not found:
        raise UserError(f"--width: {text!r} is no width; write a number with a unit: 3.25in, 8.2cm, 82mm or 234.8pt")
    inches = float(found[1]) * _UNITS[found[2]]
    if not _LEAST <= inches <= _MOST:
        raise UserError(f"--width: {text.strip()} is {inches:.4g} inches; from {_LEAST:g} to {_MOST:g} are allowed")
    return inches


def check_font(font: str) -> str:
    """Return a font family that can be used. Raise `UserError` for one that is not installed."""
    if font in FAMILIES:
        return font
    from matplotlib import font_manager

    known = sorted({entry.name for entry in font_manager.fontManager.ttflist})
    for name in known:
        if name.lower() == font.strip().lower():
            return name
    hint = did_you_mean(font, [*FAMILIES, *known])
    raise UserError(f"--font: no font '{plain_line(font)}' is installed{hint}")
