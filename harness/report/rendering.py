"""A plot as SVG, PNG, PDF and CSV, in the report's style.

matplotlib is imported when a plot is drawn. The bytes do not depend on the user's matplotlibrc, the time or random ids.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape

from harness.api.drawing import FAINT, GREY, INK
from harness.api.figure import Plot
from harness.report.marks import FigureMarks
from harness.report.print_style import SCREEN, PrintStyle
from harness.results.csv_file import csv_line
from harness.text import plain_line

DOTS_PER_INCH = 200
_METADATA = {
    "png": ("Software",),
    "svg": ("Date", "Creator"),
    "pdf": ("CreationDate", "Creator", "Producer"),
}
"""What a file format says of its making by default. It is left out: the same plot gives the same bytes."""

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


def svg(plot: Plot, print_style: PrintStyle = SCREEN) -> str:
    """Return a plot as an SVG file. Letters are outlines, so it looks the same in every program."""
    return _render(plot, "svg", {"svg.fonttype": "path"}, print_style).decode()


def inline_svg(plot: Plot, name: str) -> str:
    """Return a plot as an `<svg>` element for the page, with letters in the page's font and every id prefixed with `name`.

    Its attribute `data-marks` holds the figure's marks (`FigureMarks.to_json`) for the page's script.
    """
    marks = FigureMarks()
    text = _render(plot, "svg", {"svg.fonttype": "none"}, marks=marks).decode()
    text = text[text.index("<svg") :].replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    attributes = f'id="{name}" role="img" aria-label="{_attribute(plot.title)}" {_marks_attribute(marks)}'
    return text.replace("<svg ", f"<svg {attributes} ", 1)


def png(plot: Plot, print_style: PrintStyle = SCREEN) -> bytes:
    """Return a plot as a PNG file."""
    return _render(plot, "png", {"savefig.dpi": DOTS_PER_INCH}, print_style)


def pdf(plot: Plot, print_style: PrintStyle = SCREEN) -> bytes:
    """Return a plot as a PDF file. Its fonts are embedded as TrueType (type 42), as publishers demand."""
    return _render(plot, "pdf", {"pdf.fonttype": 42}, print_style)


def csv(plot: Plot) -> str:
    """Return a plot's data as CSV. Numbers have all their digits."""
    lines = [plot.columns, *plot.records]
    return "".join(csv_line(map(_field, line)) for line in lines)


def _marks_attribute(marks: FigureMarks) -> str:
    return f'data-marks="{escape(marks.to_json(), {chr(34): "&quot;"})}"'


def _render(
    plot: Plot,
    file_format: str,
    changes: dict[str, Any],
    print_style: PrintStyle = SCREEN,
    marks: FigureMarks | None = None,
) -> bytes:
    from matplotlib.figure import Figure as Canvas

    with _style({**print_style.parameters, **changes}):
        canvas = Canvas(figsize=print_style.size(plot.size))
        plot.paint(canvas)
        if marks is not None:
            marks.tag(canvas)
        stream = io.BytesIO()
        canvas.savefig(stream, format=file_format, metadata=dict.fromkeys(_METADATA[file_format]))
        if marks is not None:
            marks.locate(canvas)
    return stream.getvalue()


@contextmanager
def _style(changes: dict[str, Any]) -> Iterator[None]:
    """Set the report's style, whatever the user's settings are, and ignore warnings about letters that the font lacks."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams
        parameters.update({**_STYLE, **changes})
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))  # the repr of a numpy number includes its type
    return str(value)


def _attribute(text: str) -> str:
    return escape(plain_line(text), {'"': "&quot;"})
