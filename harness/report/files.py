"""Figures as files: PNG, SVG, PDF, and the data as CSV."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import UserError, attribute_errors
from harness.files import write_atomically
from harness.report import rendering
from harness.report.figures import DrawnFigure
from harness.report.print_style import SCREEN, PrintStyle

DEFAULT_FORMATS = ("png", "svg", "csv")


def write_figures(
    figures: Iterable[DrawnFigure],
    folder: str | Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    print_style: PrintStyle = SCREEN,
) -> list[Path]:
    """Write every figure in each of the formats to a folder, which is created if necessary. Return the files.

    Formats are `png`, `svg`, `pdf` and `csv`, the data. Raise `PluginFailed` for a figure that was drawn for the page and
    cannot be drawn again, and `UserError` if a file cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}; name another folder") from None
    written = []
    for figure in figures:
        with attribute_errors(figure.label, "paint"), contextlib.redirect_stdout(sys.stderr):
            contents = {name: _content(figure, name, print_style) for name in formats}
        for ending, content in contents.items():
            path = folder / f"{figure.name}.{ending}"
            write_atomically(path, content)
            written.append(path)
    return written


def _content(figure: DrawnFigure, file_format: str, print_style: PrintStyle) -> str | bytes:
    if file_format == "csv":
        return figure.csv
    if file_format == "png":
        return rendering.png(figure.plot, print_style)
    if file_format == "pdf":
        return rendering.pdf(figure.plot, print_style)
    return rendering.svg(figure.plot, print_style)
