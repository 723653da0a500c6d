"""The report: a run's folder to one HTML page, and to figures as files. It reads rows and events and never trains.

`read_run` reads the folder, `make_figures` makes figures of it and of its board, `make_page` lays all out, `write_figures`
writes the figures as PNG, SVG and CSV. Each figure has a room of its own.
"""

from harness.report.drawing import Figure
from harness.report.figures import make_figures, write_figures
from harness.report.page import make_page
from harness.report.run import Run, read_run

__all__ = ["Figure", "Run", "make_figures", "make_page", "read_run", "write_figures"]
