"""Figures as files: PNG, SVG, and the data as CSV."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError, attribute_errors
from harness.files import write_atomically
from harness.report import rendering
from harness.report.figures import DrawnFigure


def write_figures(figures: Iterable[DrawnFigure], folder: str | Path) -> list[Path]:
    """Write every figure as PNG, SVG and CSV to a folder, which is created if necessary. Return the files.

    Raise `PluginFailed` for a figure that was drawn for the page and cannot be drawn again, and `UserError` if a file cannot
    be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}; name another folder") from None
    written = []
    for figure in figures:
        with attribute_errors(figure.label, "paint"), contextlib.redirect_stdout(sys.stderr):
            contents: dict[str, str | bytes] = {
                "png": rendering.png(figure.plot),
                "svg": rendering.svg(figure.plot),
                "csv": figure.csv,
            }
        for ending, content in contents.items():
            path = folder / f"{figure.name}.{ending}"
            write_atomically(path, content)
            written.append(path)
    return written
