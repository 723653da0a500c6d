"""A YAML file → a mapping of plain values whose positions can be looked up. Knows nothing of what the keys mean.

Files come from strangers: size, depth and expansion are bounded (SECURITY.md).
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
    """A file's values, and the problems of its text that do not hide the rest of it."""

    path: Path
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    document: Document  # of the file, in which positions are looked up
    overridden: Mapping[KeyPath, Position] = field(default_factory=dict)
    """The paths whose values the command line gave, with the option that gave them."""

    def problem(self, path: KeyPath, text: str, *, at_key: bool = False) -> Problem:
        """Return a problem at the value (or the key) at a path, or at the nearest value around a missing one."""
        span = self.span(path)
        return Problem(span.key if at_key else span.value, text)

    def span(self, path: KeyPath) -> Span:
        """Return where a value and its key are."""
        for length in range(len(path), 0, -1):
            option = self.overridden.get(path[:length])
            if option is not None:
                return Span(option, option)
        return self.document.span(path)

    def describe_position(self, path: KeyPath) -> str:
        """Return the position of a value as messages print it."""
        return self.span(path).value.describe(self.path)

    def error(self, problems: Iterable[Problem]) -> BenchmarkError:
        """Return the exception that lists problems, each once, in the order of the file."""
        return BenchmarkError(f"{position.describe(self.path)}: {text}" for position, text in sorted(set(problems)))


def read_source(path: Path) -> YamlSource:
    """Read a file.

    Raise `BenchmarkError` if it is no YAML mapping. Lesser problems (a key given twice, …) go into `problems`.
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
