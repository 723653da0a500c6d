"""The report: a run's folder → one HTML page, and figures as files. It reads rows and events and trains nothing.

`read_run` reads the folder, `make_figures` draws the figures of all plugins, `make_page` returns the HTML page, and
`write_figures` writes the figures as PNG, SVG and CSV.
"""

from harness.report.figures import DrawnFigure, DrawnFigures, make_figures
from harness.report.files import write_figures
from harness.report.page import make_page
from harness.report.run import Run, read_run

__all__ = ["DrawnFigure", "DrawnFigures", "Run", "make_figures", "make_page", "read_run", "write_figures"]
