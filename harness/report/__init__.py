"""The report: a run's folder to one HTML page, and to figures as files. It reads rows and events and never trains.

`read_run` reads the folder, `make_figures` has figure plugins draw it and its board, `make_page` lays all out, `write_figures`
writes the figures as PNG, SVG and CSV.
"""

from harness.report.figures import DrawnFigure, DrawnFigures, make_figures
from harness.report.files import write_figures
from harness.report.page import make_page
from harness.report.run import Run, read_run

__all__ = ["DrawnFigure", "DrawnFigures", "Run", "make_figures", "make_page", "read_run", "write_figures"]
