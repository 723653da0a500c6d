"""Positions in a benchmark file, and problems at positions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

KeyPath = tuple[str | int, ...]
"""The keys and indices from the top of a file to a value."""


class Position(NamedTuple):
    """A line and a column, both from 1, or a command-line option such as `--set seeds`, which sorts after the file."""

    line: int
    column: int
    option: str = ""

    def describe(self, path: Path) -> str:
        """Return the position for a message."""
        return self.option or f"{path}:{self.line}:{self.column}"


class Span(NamedTuple):
    """The positions of a value and of its key. Both are the same for an item of a list, which has no key."""

    key: Position
    value: Position


class Problem(NamedTuple):
    """A message about a position. Problems sort in the order of the file."""

    position: Position
    text: str


class ProblemError(Exception):
    """A problem that prevents reading the text. The package catches it and reports the problem."""

    def __init__(self, position: Position, text: str) -> None:
        self.problem = Problem(position, text)
        super().__init__(text)
