"""The leaderboard: rows to tables, and tables to markdown, HTML, LaTeX, CSV and JSON. It reads rows and never trains.

`board` arranges rows, `compare` sets published numbers beside them, `render` writes the result down; each takes what the
one before returned. `docs/board.md` says how to read it.
"""

from harness.leaderboard.assembly import board, mean_and_std
from harness.leaderboard.formats import FORMATS, render
from harness.leaderboard.numerals import format_number
from harness.leaderboard.reference import compare, read_reference
from harness.leaderboard.tables import Board, Column, Comparison, Entry, Method, Problem, Published, Table

__all__ = [
    "FORMATS",
    "Board",
    "Column",
    "Comparison",
    "Entry",
    "Method",
    "Problem",
    "Published",
    "Table",
    "board",
    "compare",
    "format_number",
    "mean_and_std",
    "read_reference",
    "render",
]
