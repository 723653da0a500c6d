"""The report: a run's folder → one HTML page, and figures as files. It reads rows and events and trains nothing.

`read_run` reads the folder, `make_figures` draws the figures of all plugins, `make_page` returns the HTML page, and
`write_figures` writes the figures as files.
"""

from harness.report.figures import DrawnFigure, DrawnFigures, make_figures
from harness.report.files import DEFAULT_FORMATS, write_figures
from harness.report.page import make_page
from harness.report.print_style import PrintStyle, check_font, parse_width
from harness.report.run import Run, read_run

__all__ = [
    "DEFAULT_FORMATS",
    "DrawnFigure",
    "DrawnFigures",
    "PrintStyle",
    "Run",
    "check_font",
    "make_figures",
    "make_page",
    "parse_width",
    "read_run",
    "write_figures",
]
