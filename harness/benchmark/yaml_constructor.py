"""A node tree → plain values with aliases and merge keys expanded, and the problems of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from harness.benchmark.core_schema import MAX_INTEGER, resolve_scalar
from harness.benchmark.formatting import format_value
from harness.benchmark.problems import KeyPath, Position, Problem, ProblemError, Span
from harness.benchmark.yaml_composer import (
    MAX_DEPTH,
    MAX_NODES,
    PLAIN_TAG,
    STANDARD_TAG,
    compose,
    limit_exceeded,
    position_of,
)

_COLLECTION_TAGS = (STANDARD_TAG + "seq", STANDARD_TAG + "map")
_STRING_TAG = STANDARD_TAG + "str"
_SCALAR_TYPES = {
    STANDARD_TAG + "int": int,
    STANDARD_TAG + "float": float,
    STANDARD_TAG + "bool": bool,
    STANDARD_TAG + "null": type(None),
}
_SURROGATE = re.compile("[\ud800-\udfff]")


class KeyValue(NamedTuple):
    """A key of a mapping and its value."""

    key: yaml.Node
    value: yaml.Node


_Pairs = dict[str, KeyValue]


@dataclass(frozen=True)
class Document:
    """The values of a YAML text, its problems, and the node tree for looking up positions."""

    root: yaml.Node | None
    value: Any
    problems: tuple[Problem, ...]
    pairs: Mapping[int, _Pairs]  # of every mapping node, by the node's id, merge keys expanded

    def span(self, path: KeyPath) -> Span:
        """Return the position of the value at a path. A missing value has the position of the nearest value around it."""
        assert self.root is not None, "an empty text has no positions"
        found = KeyValue(self.root, self.root)
        for step in path:
            inner = self._child(found.value, step)
            if inner is None:
                found = KeyValue(found.value, found.value)
                break
            found = inner
        return Span(position_of(found.key.start_mark), position_of(found.value.start_mark))

    def _child(self, node: yaml.Node, step: str | int) -> KeyValue | None:
        if isinstance(node, yaml.MappingNode) and isinstance(step, str):
            return self.pairs.get(id(node), {}).get(step)
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            return KeyValue(node.value[step], node.value[step])
        return None


def parse_yaml(text: str, option: Position | None = None) -> Document:
    """Return the document of a text. Raise `ProblemError` if the text is not YAML or exceeds a limit.

    `option` is given for a text from the command line and is then the position of all its problems.
    """
    root = compose(text)
    constructor = _Constructor(option)
    value = None if root is None else constructor.construct(root)
    return Document(root, value, tuple(constructor.problems), constructor.pairs)


class _Constructor:
    """Builds plain values from nodes. Every use of an alias becomes a separate value and counts toward the limits."""

    def __init__(self, option: Position | None) -> None:
        self.problems: list[Problem] = []
        self.pairs: dict[int, _Pairs] = {}
        self._option = option
        self._node_count = 0
        self._open: set[int] = set()  # ids of the collections under construction
        self._scalars: dict[int, Any] = {}  # values by the node's id: a scalar with many aliases is checked once

    def construct(self, node: yaml.Node) -> Any:
        """Return the value of a node; None for a collection inside itself."""
        if isinstance(node, yaml.ScalarNode):
            self._count(node)
            return self._scalar(node)
        if not self._enter(node):
            return None
        value = self._collection(node)
        self._open.discard(id(node))
        return value

    def _collection(self, node: yaml.Node) -> Any:
        if node.tag not in _COLLECTION_TAGS:
            self._report_tag(node)
        if not isinstance(node, yaml.MappingNode):
            return [self.construct(item) for item in node.value]
        self.pairs[id(node)] = self._pairs(node)
        values = {}
        for key, pair in self.pairs[id(node)].items():
            values[key] = self.construct(pair.value)
        return values

    def _pairs(self, node: yaml.MappingNode) -> _Pairs:
        """Return a mapping's own keys and the keys that its merge keys add."""
        pairs: _Pairs = {}
        merges: _Pairs = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key is None:
                continue
            is_merge = key_node.tag == PLAIN_TAG and key == "<<"
            known = merges if is_merge else pairs
            if key in known:
                self._report_duplicate(key_node, key, known[key].key)
            else:
                known[key] = KeyValue(key_node, value_node)
        for merge in merges.values():
            for inherited in self._merged_mappings(merge.value):
                for key, pair in inherited.items():
                    pairs.setdefault(key, pair)
        return pairs

    def _merged_mappings(self, node: yaml.Node) -> Iterator[_Pairs]:
        """Yield the keys of each mapping under a merge key; the first mapping that has a key wins."""
        parents = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for parent in parents:
            if not isinstance(parent, yaml.MappingNode):
                self._report(parent, "'<<' merges something else than a mapping; an alias of a mapping, or a list of them")
            elif self._enter(parent):
                yield self._pairs(parent)
                self._open.discard(id(parent))

    def _key(self, node: yaml.Node) -> str | None:
        """Return a key; report a node that is no text and return None."""
        self._count(node)
        if not isinstance(node, yaml.ScalarNode):
            self._report(node, "a list or mapping as a key; keys are texts")
            return None
        key = self._scalar(node)
        if not isinstance(key, str):
            self._report(node, f"key {format_value(key)} is not a text; keys are texts, quote it")
            return None
        return key

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if id(node) not in self._scalars:
            self._scalars[id(node)] = self._resolve(node)
        return self._scalars[id(node)]

    def _resolve(self, node: yaml.ScalarNode) -> Any:
        """Return the value of a scalar according to its tag, or to the core schema without a tag."""
        if _SURROGATE.search(node.value):
            self._report(node, "half a surrogate pair in a text; write the whole character")
        if node.tag == _STRING_TAG:
            return node.value
        try:
            value = resolve_scalar(node.value)
        except ValueError:
            self._report(node, f"integer {format_value(node.value)} is too large; at most {MAX_INTEGER} in size")
            return 0
        if node.tag == PLAIN_TAG:
            return value
        expected = _SCALAR_TYPES.get(node.tag)
        if expected is float and type(value) is int:
            return float(value)
        if type(value) is not expected:
            self._report_tag(node)
        return value

    def _enter(self, node: yaml.Node) -> bool:
        """Count and open a collection. Report one inside itself and return False."""
        self._count(node)
        if id(node) in self._open:
            self._report(node, "an alias inside the value that it stands for; aliases cannot be recursive")
            return False
        self._open.add(id(node))
        return True

    def _count(self, node: yaml.Node) -> None:
        self._node_count += 1
        if self._node_count > MAX_NODES or len(self._open) >= MAX_DEPTH:
            raise ProblemError(self._position(node), limit_exceeded(self._node_count))

    def _report_duplicate(self, node: yaml.Node, key: str, first: yaml.Node) -> None:
        first_line = "" if self._option else f", first in line {self._position(first).line}"
        self._report(node, f"key {format_value(key)} appears twice in one mapping{first_line}; keep one of them")

    def _report_tag(self, node: yaml.Node) -> None:
        tag = format_value(node.tag.replace(STANDARD_TAG, "!!", 1))
        self._report(node, f"tag {tag} is not allowed here; leave it out, values are plain texts, numbers, lists, mappings")

    def _report(self, node: yaml.Node, text: str) -> None:
        self.problems.append(Problem(self._position(node), text))

    def _position(self, node: yaml.Node) -> Position:
        return self._option or position_of(node.start_mark)
