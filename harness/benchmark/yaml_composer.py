"""YAML text → PyYAML's node tree, limited in size and depth. A syntax error becomes one line with a hint."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from harness.benchmark.problems import Position, ProblemError

MAX_NODES = 100_000
MAX_DEPTH = 50

STANDARD_TAG = "tag:yaml.org,2002:"
PLAIN_TAG = "plain"
"""The tag of an unquoted scalar that has no tag; the core schema defines its value."""

_HINTS = (
    ("character '\\t'", "indent with spaces, not with tabs"),
    ("cannot start any token", "quote a text that begins with this character"),
    ("mapping values are not allowed", "check the indentation, and quote a text that holds a colon"),
    ("could not find expected ':'", "write 'key: value', and check the indentation"),
    ("expected <block end>", "check the indentation"),
    ("expected ',' or", "close the bracket, and put commas between values"),
    ("unexpected end of stream", "close the quotes"),
    ("undefined alias", "an alias '*name' stands after its anchor '&name'"),
)
_DEFAULT_HINT = "check indentation, brackets and quotes"


def compose(text: str) -> yaml.Node | None:
    """Return the root node of a text with one document; None for an empty text. Raise `ProblemError` for invalid YAML."""
    _refuse_unprintable(text)
    composer = _BoundedComposer(text)
    try:
        return composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ProblemError(position_of(error.problem_mark or composer.get_mark()), _describe(error)) from None
    except (ValueError, OverflowError):  # PyYAML does not catch the escape "\UFFFFFFFF" or a version of 5,000 digits
        message = "not YAML: a number out of range; check escapes and directives"
        raise ProblemError(position_of(composer.get_mark()), message) from None
    finally:
        composer.dispose()


def position_of(mark: yaml.Mark) -> Position:
    """Return a PyYAML mark, which counts from 0, as a position, which counts from 1."""
    return Position(mark.line + 1, mark.column + 1)


def position_at(text: str, index: int) -> Position:
    """Return the position of a character of a text."""
    return Position(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def limit_exceeded(node_count: int) -> str:
    """Return the message about too many nodes, or else about too much nesting."""
    if node_count > MAX_NODES:
        return f"too many values, aliases expanded; a file has at most {MAX_NODES} of them"
    return f"nested too deeply; at most {MAX_DEPTH} levels"


class _LimitError(yaml.MarkedYAMLError):
    """The text exceeds the limit of nodes or of nesting."""


class _BoundedComposer(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's composer in pure Python with limits on nodes and depth, and without its YAML 1.1 resolver."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.depth = 0
        self.node_count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.node_count += 1
        if self.node_count > MAX_NODES or self.depth > MAX_DEPTH:
            raise _LimitError(None, None, limit_exceeded(self.node_count), self.peek_event().start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.SequenceNode:
            return STANDARD_TAG + "seq"
        if kind is yaml.MappingNode:
            return STANDARD_TAG + "map"
        return PLAIN_TAG if implicit[0] else STANDARD_TAG + "str"


def _refuse_unprintable(text: str) -> None:
    found = Reader.NON_PRINTABLE.search(text)
    if found:
        character = f"character U+{ord(found.group()):04X}"
        message = f"{character} cannot stand in a text file; save the file as UTF-8 text"
        raise ProblemError(position_at(text, found.start()), message)


def _describe(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's error on one line, with a hint."""
    if isinstance(error, _LimitError):
        return str(error.problem)
    if error.context == "expected a single document in the stream":
        return "a second document begins here; a benchmark file holds one"
    found = " ".join(str(error.problem).split())
    return f"not YAML: {found[:200]}{_context(error)}; {_hint(found)}"


def _context(error: yaml.MarkedYAMLError) -> str:
    start = error.context_mark
    if not error.context or start is None:
        return ""
    return f" ({error.context}, begun at {start.line + 1}:{start.column + 1})"


def _hint(found: str) -> str:
    for sign, hint in _HINTS:
        if sign in found:
            return hint
    return _DEFAULT_HINT
