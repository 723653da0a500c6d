"""Overrides of a benchmark file: `--set KEY=VALUE`, where KEY is a dotted path and VALUE is YAML."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.benchmark.formatting import format_key, format_path, format_value
from harness.benchmark.problems import KeyPath, Position, Problem, ProblemError
from harness.benchmark.yaml_composer import MAX_DEPTH
from harness.benchmark.yaml_constructor import parse_yaml
from harness.benchmark.yaml_source import YamlSource

_AFTER_THE_FILE = 1 << 30  # a line number beyond those of any file
_MAX_INDEX_DIGITS = 9


def apply_overrides(source: YamlSource, overrides: Sequence[str]) -> YamlSource:
    """Return a source with `KEY=VALUE` overrides applied, such as `settings.0.recipe.epochs=3`.

    Missing mappings along the path are created. An invalid override becomes a problem at the position `--set KEY`.
    """
    for number, override in enumerate(overrides):
        key, equals, text = override.partition("=")
        option = Position(_AFTER_THE_FILE, number, f"--set {format_key(key)}")
        try:
            if not equals:
                raise _PathError("has no '='; write KEY=VALUE, such as recipe.epochs=3")
            source = _apply(source, key, text, option)
        except (_PathError, ProblemError) as error:
            source = replace(source, problems=(*source.problems, Problem(option, str(error))))
    return source


class _PathError(Exception):
    """A dotted path that does not exist and cannot be created."""


def _apply(source: YamlSource, key: str, text: str, option: Position) -> YamlSource:
    document = parse_yaml(text, option)
    path = _resolve_path(source.data, key)
    data = copy.deepcopy(source.data)
    created = _assign(data, path, document.value)
    overridden = {known: other for known, other in source.overridden.items() if known[: len(path)] != path}
    overridden.update(dict.fromkeys([*created, path], option))
    return replace(source, data=data, overridden=overridden, problems=(*source.problems, *document.problems))


def _resolve_path(data: dict[str, Any], key: str) -> KeyPath:
    """Return the key path of a dotted key. Raise `_PathError` if it does not exist and cannot be created."""
    words = key.split(".")
    if len(words) > MAX_DEPTH:
        raise _PathError(f"has {len(words)} steps; at most {MAX_DEPTH}")
    path: KeyPath = ()
    container: Any = data
    while words:
        if isinstance(container, list):
            index = _list_index(container, words.pop(0), path)
            path = (*path, index)
            container = container[index]
        elif isinstance(container, dict):
            name = _mapping_key(container, words)
            path = (*path, name)
            container = _inner_mapping(container, name)
        else:
            found = f"'{format_path(path)}' is {format_value(container)}"
            raise _PathError(f"{found}, with nothing inside; only mappings and lists have parts")
    return path


def _list_index(items: list[Any], word: str, path: KeyPath) -> int:
    is_number = word.isascii() and word.isdecimal() and len(word) <= _MAX_INDEX_DIGITS
    if is_number and int(word) < len(items):
        return int(word)
    allowed = f"an index from 0 to {len(items) - 1}" if items else "it is empty"
    raise _PathError(f"{format_value(word)} is no item of the list '{format_path(path)}'; {allowed}")


def _mapping_key(mapping: dict[str, Any], words: list[str]) -> str:
    """Remove a key from the front of `words`: the longest key of the mapping, dots included, or else the first word."""
    count = 1
    for length in range(len(words), 1, -1):
        if ".".join(words[:length]) in mapping:
            count = length
            break
    key = ".".join(words[:count])
    if not key:
        raise _PathError("has an empty step; write KEY=VALUE with KEY a dotted path, such as recipe.epochs=3")
    del words[:count]
    return key


def _inner_mapping(mapping: dict[str, Any], key: str) -> Any:
    """Return the value of a key. A missing or empty value counts as an empty mapping."""
    value = mapping.get(key)
    return {} if value is None else value


def _assign(data: dict[str, Any], path: KeyPath, value: Any) -> list[KeyPath]:
    """Set the value at a path. Return the paths of the mappings that were created."""
    created = []
    container: Any = data
    for depth, step in enumerate(path[:-1], start=1):
        if isinstance(container, dict):
            if step not in container:
                created.append(path[:depth])
            if container.get(step) is None:
                container[step] = {}
        container = container[step]
    container[path[-1]] = value
    return created
