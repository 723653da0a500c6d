"""The report: folders of runs → one HTML page, and figures as files. It reads rows and events and trains nothing.

`read_run` reads a folder, `read_runs` joins several, `make_figures` draws the figures of all plugins, `make_page` returns the
HTML page, and `write_figures` writes the figures as files.
"""

from harness.report.figures import DrawnFigure, DrawnFigures, make_figures
from harness.report.files import DEFAULT_FORMATS, write_figures
from harness.report.page import make_page
from harness.report.print_style import PrintStyle, check_font, parse_width
from harness.report.run import Run, read_run, read_runs

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
    "read_runs",
    "write_figures",
]
