"""A benchmark given as a Python mapping instead of a file. Messages name the path of a value, such as `methods[0]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api.scalars import without_numpy
from harness.benchmark.formatting import format_path
from harness.benchmark.problems import KeyPath, Position, Problem, Span
from harness.benchmark.yaml_constructor import parse_yaml
from harness.benchmark.yaml_source import YamlSource

_NAME = Path("benchmark")


@dataclass(frozen=True)
class MappingSource(YamlSource):
    """The values of a mapping. Every value has a position that shows its path."""

    def problem(self, path: KeyPath, text: str, *, at_key: bool = False) -> Problem:
        """Return a problem at a value. Its path is left out where the text begins with it."""
        problem = super().problem(path, text, at_key=at_key)
        if not text.startswith(f"{format_path(path)}:"):
            return problem
        return Problem(problem.position._replace(option=str(_NAME)), text)

    def span(self, path: KeyPath) -> Span:
        """Return the position of the value at a path, or of the nearest enclosing one."""
        if any(path[:length] in self.overridden for length in range(len(path), 0, -1)):
            return super().span(path)
        whole = Position(0, 0, str(_NAME))
        return Span(whole, whole)


def mapping_source(values: Mapping[str, Any]) -> MappingSource:
    """Return the values of a mapping with the keys of a benchmark file. Tuples count as lists."""
    data = _plain(values)
    positions: dict[KeyPath, Position] = {}
    _add_positions(data, (), positions)
    return MappingSource(_NAME, data, (), parse_yaml("{}"), positions)


def _plain(value: Any) -> Any:
    """Return a value as YAML would have given it, as far as that is another one: lists, dicts, numbers, texts of paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return without_numpy(value)


def _add_positions(value: Any, path: KeyPath, positions: dict[KeyPath, Position]) -> None:
    if path:
        positions[path] = Position(len(positions) + 1, 0, f"{_NAME}: {format_path(path)}")
    if isinstance(value, dict):
        for key, item in value.items():
            _add_positions(item, (*path, key), positions)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _add_positions(item, (*path, index), positions)
