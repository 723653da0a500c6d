"""The leaderboard: rows → tables → markdown, HTML, LaTeX, CSV or JSON. It reads rows and trains nothing.

`board` makes a board of rows, `compare` adds published numbers to a board, `render` returns a board as text. `docs/board.md`
describes the result.
"""

from harness.leaderboard.assembly import board
from harness.leaderboard.averages import mean_and_std
from harness.leaderboard.formats import FORMATS, render
from harness.leaderboard.numerals import format_number
from harness.leaderboard.paper import PaperOptions
from harness.leaderboard.reference import compare, read_reference
from harness.leaderboard.tables import Board, Column, Comparison, Entry, Method, Problem, Published, Table

__all__ = [
    "FORMATS",
    "Board",
    "Column",
    "Comparison",
    "Entry",
    "Method",
    "PaperOptions",
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
