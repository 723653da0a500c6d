"""A figure as a value, and as SVG, PNG and CSV. Knows how figures look and nothing of what they show.

matplotlib is imported when a figure is drawn. No user's matplotlibrc, no clock and no random id gets into the bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.leaderboard import plain
from harness.results import csv_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, GREY, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
DOTS_PER_INCH = 200
SOURCE = "Lion et al. 2024"
_COLOURS = ("#33658a", "#c8553d", "#2a9d6f", "#8e5ea2", "#d19c1d", "#3fa7b5", "#7a5c3e", "#d4709f", "#7f8c3a", "#555555")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a method's name is a dollar
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.0,
    "errorbar.capsize": 2.0,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "basin-harness",
}


@dataclass(frozen=True)
class Figure:
    """A figure: the stem of its files, where it belongs, what it says, its data as a table, and how it is drawn.

    `size` is in inches.
    """

    name: str
    section: str
    title: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[tuple[object, ...], ...]
    size: tuple[float, float]
    draw: Callable[[Canvas], None]


class Look(NamedTuple):
    """How a curve is told from the others."""

    colour: str
    marker: str
    line: str


def look(index: int, step: int = 0) -> Look:
    """Return the look of the curve of an index: 10 colours, then the same with other lines; markers change with both.

    Where a curve stands for several, `step` counts them: ever lighter, with other lines and markers.
    """
    lap, colour = divmod(index, len(_COLOURS))
    marker = _MARKERS[(index + lap + step) % len(_MARKERS)]
    return Look(_lighter(_COLOURS[colour], min(0.6, 0.13 * step)), marker, _LINES[(lap + step) % len(_LINES)])


def svg(figure: Figure) -> str:
    """Return a figure as an SVG file, letters as outlines: it looks alike wherever it is opened."""
    return _drawn(figure, "svg", {"svg.fonttype": "path"}).decode()


def inline_svg(figure: Figure) -> str:
    """Return a figure as an `<svg>` element for a page: letters in the page's own font, every id the figure's own."""
    text = _drawn(figure, "svg", {"svg.fonttype": "none"}).decode()
    text = text[text.index("<svg") :].replace('<style type="text/css">*{', f'<style type="text/css">#{figure.name} *{{')
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{figure.name}-", text)
    return text.replace("<svg ", f'<svg id="{figure.name}" role="img" aria-label="{_attribute(figure.title)}" ', 1)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    return _drawn(figure, "png", {"savefig.dpi": DOTS_PER_INCH})


def csv(figure: Figure) -> str:
    """Return a figure's data as CSV, numbers with all their digits."""
    return "".join(csv_line(map(_field, line)) for line in [figure.columns, *figure.lines])


def label(text: str) -> str:
    """Return a name as a figure can show it: one line, not too long, no underscore first (a legend would pass over it)."""
    clean = plain(text)
    clean = clean if len(clean) <= 48 else f"{clean[:47]}…"
    return f" {clean}" if clean.startswith("_") else clean


def height(least: float, labels: int) -> float:
    """Return the height, in inches, of a figure whose legend holds so many labels."""
    return max(least, 0.75 + 0.18 * labels)


def fits_an_axis(value: float) -> bool:
    """Say whether an axis can show a number: finite, and not so large that sums of such numbers overflow."""
    return math.isfinite(value) and abs(value) < 1e100


def legend(axes: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend at the right of the axes."""
    axes.legend(handles, list(labels), loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0, handlelength=1.8)


def whole_epochs(axes: Axes) -> None:
    """Put the ticks of the horizontal axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _drawn(figure: Figure, form: str, changes: dict[str, Any]) -> bytes:
    from matplotlib.figure import Figure as Canvas

    with _style(changes):
        canvas = Canvas(figsize=figure.size)
        figure.draw(canvas)
        stream = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        canvas.savefig(stream, format=form, metadata=metadata)
    return stream.getvalue()


@contextmanager
def _style(changes: dict[str, Any]) -> Iterator[None]:
    """Draw in our style and nobody else's; a letter that the font lacks is drawn as a box without a word about it."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update({**_STYLE, **changes})
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def _lighter(colour: str, share: float) -> str:
    """Return a colour with a share of white in it."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)


def _field(value: object) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _attribute(text: str) -> str:
    return plain(text).translate({ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"})
