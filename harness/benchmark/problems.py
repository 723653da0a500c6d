"""Positions in a benchmark file, and problems at them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

KeyPath = tuple[str | int, ...]
"""The keys and indices that lead from the top of a file to a value."""


class Position(NamedTuple):
    """A line and a column, counted from 1, or a command-line option such as `--set seeds`, which sorts after the file."""

    line: int
    column: int
    option: str = ""

    def describe(self, path: Path) -> str:
        """Return the position as messages print it."""
        return self.option or f"{path}:{self.line}:{self.column}"


class Span(NamedTuple):
    """The positions of a value and of its key. An item of a list has no key: both are the item's position."""

    key: Position
    value: Position


class Problem(NamedTuple):
    """Something wrong at a position. Problems sort in the order of the file."""

    position: Position
    text: str


class ProblemError(Exception):
    """A problem that makes a text unusable. The package catches it and reports the problem."""

    def __init__(self, position: Position, text: str) -> None:
        self.problem = Problem(position, text)
        super().__init__(text)
