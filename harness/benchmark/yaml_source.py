"""A YAML file → a mapping of plain values with positions. Does not know the meaning of the keys.

Files may be hostile, so size, depth and expansion are limited (SECURITY.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.benchmark.formatting import format_value
from harness.benchmark.problems import KeyPath, Position, Problem, ProblemError, Span
from harness.benchmark.yaml_composer import position_at
from harness.benchmark.yaml_constructor import Document, parse_yaml
from harness.errors import BenchmarkError

MAX_BYTES = 256 * 1024


@dataclass(frozen=True)
class YamlSource:
    """The values of a file, and the problems that do not prevent reading the rest."""

    path: Path
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    document: Document  # for looking up positions
    overridden: Mapping[KeyPath, Position] = field(default_factory=dict)
    """Paths whose values come from the command line → the option."""

    def problem(self, path: KeyPath, text: str, *, at_key: bool = False) -> Problem:
        """Return a problem at the value (or the key) of a path; for a missing value, at the nearest enclosing one."""
        span = self.span(path)
        position = span.key if at_key else span.value
        return Problem(position, text)

    def span(self, path: KeyPath) -> Span:
        """Return the positions of the value at a path and of its key."""
        for length in range(len(path), 0, -1):
            option = self.overridden.get(path[:length])
            if option is not None:
                return Span(option, option)
        return self.document.span(path)

    def describe_position(self, path: KeyPath) -> str:
        """Return the position of the value at a path, for a message."""
        return self.span(path).value.describe(self.path)

    def error(self, problems: Iterable[Problem]) -> BenchmarkError:
        """Return an exception that lists each problem once, in the order of the file."""
        return BenchmarkError(f"{position.describe(self.path)}: {text}" for position, text in sorted(set(problems)))


def read_source(path: Path) -> YamlSource:
    """Return the values of a file.

    Raise `BenchmarkError` if it cannot be read or is no YAML mapping. Other problems (a duplicate key, …) go to `problems`.
    """
    text = _read_text(path)
    try:
        document = parse_yaml(text)
    except ProblemError as error:
        raise BenchmarkError([f"{error.problem.position.describe(path)}: {error}"]) from None
    if document.value is None:
        raise BenchmarkError([f"{path}: is empty; a benchmark file is a YAML mapping of keys and values"])
    source = YamlSource(path, document.value, document.problems, document)
    if not isinstance(document.value, dict):
        found = f"the file holds {format_value(document.value)}; a benchmark file is a YAML mapping of keys and values"
        raise source.error([source.problem((), found)])
    return source


def _read_text(path: Path) -> str:
    """Return the text of a file without a byte order mark at its start."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BenchmarkError([f"{path}: no such file; give the path of a benchmark file"]) from None
    except IsADirectoryError:
        raise BenchmarkError([f"{path}: is a directory; give the path of a benchmark file in it"]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BenchmarkError([f"{path}: cannot be read ({reason}); give the path of a benchmark file"]) from None
    if len(content) > MAX_BYTES:
        raise BenchmarkError([f"{path}: is larger than a benchmark file can be; at most {MAX_BYTES // 1024} KiB"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        position = position_at(before, len(before)).describe(path)
        byte = f"byte 0x{content[error.start]:02x}"
        raise BenchmarkError([f"{position}: {byte} is not UTF-8; save the file as UTF-8 text"]) from None
