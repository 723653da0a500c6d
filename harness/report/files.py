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
    """Write every figure as PNG, SVG and CSV into a folder, made if it is not there; return the files.

    Raise `PluginFailed` if a figure that could be drawn for the page cannot be drawn again.
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
