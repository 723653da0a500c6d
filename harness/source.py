"""YAML text → plain values that remember where they stand, and the command line's changes to them.

This room knows YAML and positions; it knows nothing of what the keys mean. Plain scalars follow YAML 1.2's core schema: `no`
and `10:30` are texts, `1e-3` and `1.` numbers, `010` is ten. Files are strangers: size, depth and expansion are bounded.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from harness.errors import BenchmarkError

MAX_BYTES = 256 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 50
MAX_INTEGER = 2**63 - 1

Place = tuple[str | int, ...]
"""The way to a value: the keys and indices from the top of the file."""


class Mark(NamedTuple):
    """A position: line and column from 1, or the command line's option that gave the value (these sort after the file)."""

    line: int
    column: int
    given: str = ""


class Spot(NamedTuple):
    """Where a value stands, and the key before it (an item of a list has none: its own position)."""

    key: Mark
    value: Mark


class Problem(NamedTuple):
    """Something wrong at a position. Problems sort as the file reads."""

    mark: Mark
    text: str


@dataclass(frozen=True)
class Source:
    """A file's values, where each of them stands, and what is wrong with the text without hiding the rest of it."""

    path: Path
    data: dict[str, Any]
    marks: Mapping[Place, Spot]
    problems: tuple[Problem, ...] = ()

    def problem(self, place: Place, text: str, *, at_key: bool = False) -> Problem:
        """Return a problem at a value (or its key); a place that the file lacks stands where the nearest one around it does."""
        while place and place not in self.marks:
            place, at_key = place[:-1], False
        spot = self.marks[place]
        return Problem(spot.key if at_key else spot.value, text)

    def where(self, place: Place) -> str:
        """Return a value's position as messages print it."""
        return _position(self.path, self.problem(place, "").mark)

    def error(self, problems: Iterable[Problem]) -> BenchmarkError:
        """Return the exception that lists problems, each once, in the file's order."""
        return BenchmarkError(f"{_position(self.path, mark)}: {text}" for mark, text in sorted(set(problems)))


def read_source(path: Path, overrides: Sequence[str] = ()) -> Source:
    """Read a file and apply the command line's `KEY=VALUE` changes.

    Raises `BenchmarkError` where nothing can be made of the text; lesser problems (a key given twice, …) go into `problems`.
    """
    text = _text_of(path)

    def mark_of(mark: yaml.Mark) -> Mark:
        return Mark(mark.line + 1, mark.column + 1)

    try:
        data, expansion = _load(text, mark_of)
    except _Refused as refused:
        raise BenchmarkError([f"{_position(path, refused.mark)}: {refused}"]) from None
    if data is None:
        raise BenchmarkError([f"{path}: is empty; a benchmark file is a YAML mapping of keys and values"])
    if not isinstance(data, dict):
        found = f"{_position(path, expansion.marks[()].value)}: the file holds {shown(data)}"
        raise BenchmarkError([f"{found}; a benchmark file is a YAML mapping of keys and values"])
    source = Source(path, data, expansion.marks, tuple(expansion.problems))
    return with_overrides(source, overrides) if overrides else source


def shown(value: object) -> str:
    """Return a value as messages print it: on one line, shortened, YAML's words for YAML's values."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, str):
        return repr(value) if len(value) <= 60 else f"{value[:40]!r}… ({len(value)} characters)"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} {'key' if len(value) == 1 else 'keys'}"
    if isinstance(value, (list, tuple, set, frozenset)):
        listed = ", ".join(shown(item) for item in list(value)[:10])
        return f"[{listed}]" if len(value) <= 10 and len(listed) <= 60 else f"a list of {len(value)} values"
    return repr(value)[:60]


def dotted(place: Place) -> str:
    """Return a place as messages print it: `recipe.betas[1]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_word(step)}" for step in place).removeprefix(".")


def _word(text: str) -> str:
    """Return a key as it is, where it can be printed so."""
    return text if text.isprintable() and len(text) <= 60 else shown(text)


def _position(path: Path, mark: Mark) -> str:
    return mark.given or f"{path}:{mark.line}:{mark.column}"


# Bytes → text


def _text_of(path: Path) -> str:
    """Return the file's text; a byte order mark at its start is dropped."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BenchmarkError([f"{path}: no such file; give the path of a benchmark file"]) from None
    except IsADirectoryError:
        raise BenchmarkError([f"{path}: is a directory; give the path of a benchmark file in it"]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BenchmarkError([f"{path}: cannot be read ({reason}); give the path of a benchmark file"]) from None
    if len(raw) > MAX_BYTES:
        raise BenchmarkError([f"{path}: is larger than a benchmark file can be; at most {MAX_BYTES // 1024} KiB"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        where = _position(path, _mark_at(before, len(before)))
        raise BenchmarkError([f"{where}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8 text"]) from None


def _mark_at(text: str, index: int) -> Mark:
    return Mark(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


# Text → nodes


class _Refused(Exception):  # never leaves this room
    """A text of which nothing can be made."""

    def __init__(self, mark: Mark, text: str) -> None:
        self.mark = mark
        super().__init__(text)


class _TooMuch(yaml.MarkedYAMLError):
    """More nodes or nesting than a file may have."""


_STANDARD = "tag:yaml.org,2002:"
_PLAIN = "plain"  # the tag of an unquoted scalar without a tag of its own


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's pure composer without its YAML 1.1 resolver, bounded in nodes and depth."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.depth = self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES or self.depth > MAX_DEPTH:
            raise _TooMuch(None, None, _too_much(self.nodes), self.peek_event().start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _STANDARD + "str"
        return _STANDARD + ("seq" if kind is yaml.SequenceNode else "map")


def _too_much(nodes: int) -> str:
    if nodes > MAX_NODES:
        return f"too many values, aliases expanded; a file has at most {MAX_NODES} of them"
    return f"nested too deeply; at most {MAX_DEPTH} levels"


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


def _load(text: str, mark_of: Callable[[yaml.Mark], Mark]) -> tuple[Any, _Expansion]:
    """Return a document's value and its expansion, which holds positions and problems. Raises `_Refused`."""
    bad = Reader.NON_PRINTABLE.search(text)
    if bad:
        mark = _mark_at(text, bad.start())
        where = mark_of(yaml.Mark("", bad.start(), mark.line - 1, mark.column - 1, None, 0))
        raise _Refused(where, f"character U+{ord(bad.group()):04X} cannot stand in a text file; save the file as UTF-8 text")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except _TooMuch as error:
        raise _Refused(mark_of(error.problem_mark or loader.get_mark()), str(error.problem)) from None
    except yaml.MarkedYAMLError as error:
        raise _Refused(mark_of(error.problem_mark or loader.get_mark()), _complaint(error)) from None
    except (ValueError, OverflowError):  # PyYAML lets a few through: the escape "\UFFFFFFFF", a version of 5,000 digits
        raise _Refused(mark_of(loader.get_mark()), "not YAML: a number out of range; check escapes and directives") from None
    finally:
        loader.dispose()
    expansion = _Expansion(mark_of)
    return (None if node is None else expansion.value(node, ())), expansion


def _complaint(error: yaml.MarkedYAMLError) -> str:
    """Say what PyYAML found, on one line, and what to try."""
    if error.context == "expected a single document in the stream":
        return "a second document begins here; a benchmark file holds one"
    found = " ".join(str(error.problem).split())
    hint = next((hint for sign, hint in _HINTS if sign in found), "check indentation, brackets and quotes")
    start = error.context_mark
    since = f" ({error.context}, begun at {start.line + 1}:{start.column + 1})" if error.context and start else ""
    return f"not YAML: {found[:200]}{since}; {hint}"


# Nodes → values

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
_TAGGED = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}


def _plain(text: str) -> Any:
    """Return what an unquoted scalar means. Raises `ValueError` for an integer beyond 64 bits."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        number = int(text, base)  # a ValueError of its own beyond 4,300 digits
        if not -MAX_INTEGER <= number <= MAX_INTEGER:
            raise ValueError
        return number
    return float(text) if _FLOAT.fullmatch(text) else text


class _Expansion:
    """Turns nodes into fresh values, aliases and merge keys expanded, noting where each stands and what is wrong."""

    def __init__(self, mark_of: Callable[[yaml.Mark], Mark]) -> None:
        self.marks: dict[Place, Spot] = {}
        self.problems: list[Problem] = []
        self._mark_of = mark_of
        self._nodes = 0
        self._open: set[int] = set()  # the collections being expanded, by identity
        self._scalars: dict[int, Any] = {}  # what scalars mean, by identity

    def value(self, node: yaml.Node, place: Place, key: Mark | None = None) -> Any:
        """Return a node's value; its position is noted under its place."""
        mark = self._mark(node)
        self.marks[place] = Spot(key or mark, mark)
        if isinstance(node, yaml.ScalarNode):
            self._count(node)
            return self._scalar(node)
        if not self._enter(node):
            return None
        try:
            if node.tag not in (_STANDARD + "seq", _STANDARD + "map"):
                self._refuse_tag(node)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            return {
                key: self.value(inner, (*place, key), self._mark(key_node))
                for key, (key_node, inner) in self._pairs(node).items()
            }
        finally:
            self._open.discard(id(node))

    def _pairs(self, node: yaml.Node) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return a mapping's keys with their nodes: its own first, then those of its merge keys that it lacks."""
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merges: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            known = merges if key_node.tag == _PLAIN and key_node.value == "<<" else pairs
            if key in known:
                first = self._mark(known[key][0])
                since = "" if first.given else f", first in line {first.line}"
                self._report(key_node, f"key {shown(key)} appears twice in one mapping{since}; keep one of them")
            elif key is not None:
                known[key] = (key_node, value_node)
        for _, merged in merges.values():
            for inherited in self._inherited(merged):
                for key, pair in inherited.items():
                    pairs.setdefault(key, pair)
        return pairs

    def _inherited(self, node: yaml.Node) -> Iterator[dict[str, tuple[yaml.Node, yaml.Node]]]:
        """Yield the pairs of each mapping under a merge key, in the order in which they take effect."""
        for parent in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(parent, yaml.MappingNode):
                self._report(parent, "'<<' merges something else than a mapping; an alias of a mapping, or a list of them")
            elif self._enter(parent):
                yield self._pairs(parent)
                self._open.discard(id(parent))

    def _key(self, node: yaml.Node) -> str | None:
        """Return a key, or nothing for what cannot be one."""
        self._count(node)
        if not isinstance(node, yaml.ScalarNode):
            self._report(node, "a list or mapping as a key; keys are texts")
            return None
        key = self._scalar(node)
        if not isinstance(key, str):
            self._report(node, f"key {shown(key)} is not a text; keys are texts, quote it")
            return None
        return key

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """Return what a scalar means; looked at once, however many aliases stand for it."""
        if id(node) not in self._scalars:
            self._scalars[id(node)] = self._meaning(node)
        return self._scalars[id(node)]

    def _meaning(self, node: yaml.ScalarNode) -> Any:
        if re.search("[\ud800-\udfff]", node.value):
            self._report(node, "half a surrogate pair in a text; write the whole character")
        if node.tag == _STANDARD + "str":
            return node.value
        try:
            value = _plain(node.value)
        except ValueError:
            self._report(node, f"integer {shown(node.value)} is too large; at most {MAX_INTEGER} in size")
            return 0
        wanted = _TAGGED.get(node.tag.removeprefix(_STANDARD))
        if wanted is float and type(value) is int:
            return float(value)
        if node.tag != _PLAIN and type(value) is not wanted:
            self._refuse_tag(node)
        return value

    def _enter(self, node: yaml.Node) -> bool:
        """Begin a collection, unless it is inside itself."""
        self._count(node)
        if id(node) in self._open:
            self._report(node, "an alias inside the value that it stands for; aliases cannot be recursive")
            return False
        self._open.add(id(node))
        return True

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(self._open) >= MAX_DEPTH:
            raise _Refused(self._mark(node), _too_much(self._nodes))

    def _refuse_tag(self, node: yaml.Node) -> None:
        tag = node.tag.replace(_STANDARD, "!!", 1)
        self._report(
            node, f"tag {shown(tag)} is not allowed here; leave it out, values are plain texts, numbers, lists, mappings"
        )

    def _report(self, node: yaml.Node, text: str) -> None:
        self.problems.append(Problem(self._mark(node), text))

    def _mark(self, node: yaml.Node) -> Mark:
        return self._mark_of(node.start_mark)


# The command line's changes

_AFTER_THE_FILE = 1 << 30


def with_overrides(source: Source, overrides: Sequence[str]) -> Source:
    """Return a source with `KEY=VALUE` changes: KEY a dotted path (`settings.0.recipe.epochs`), VALUE YAML.

    Mappings on the way are made where missing. What is wrong with a change is a problem like any other, placed `--set KEY`.
    """
    data, marks, problems = copy.deepcopy(source.data), dict(source.marks), list(source.problems)
    for number, override in enumerate(overrides):
        key, equals, text = override.partition("=")
        mark = Mark(_AFTER_THE_FILE, number, f"--set {_word(key)}")
        try:
            if not equals:
                raise _Refused(mark, "has no '='; write KEY=VALUE, such as recipe.epochs=3")
            value, expansion = _load(text, partial(_always, mark))
            place = _assign(data, key, value, mark)
        except _Refused as refused:
            problems.append(Problem(refused.mark, str(refused)))
            continue
        problems += expansion.problems
        marks = {known: spot for known, spot in marks.items() if known[: len(place)] != place}
        for length in range(1, len(place)):
            marks.setdefault(place[:length], Spot(mark, mark))
        marks |= {(*place, *inner): Spot(mark, mark) for inner in expansion.marks or [()]}
    return replace(source, data=data, marks=marks, problems=tuple(problems))


def _always(mark: Mark, _: yaml.Mark) -> Mark:
    return mark


def _assign(data: dict[str, Any], key: str, value: Any, mark: Mark) -> Place:
    """Put a value at a dotted path and return its place. Raises `_Refused` where the path leads nowhere."""
    here: Any = data
    place: Place = ()
    words = key.split(".")
    if len(words) > MAX_DEPTH:
        raise _Refused(mark, f"has {len(words)} steps; at most {MAX_DEPTH}")
    while True:
        step = _step(here, words, place, mark)
        place = (*place, step)
        if not words:
            here[step] = value
            return place
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
        here = here[step]


def _step(here: Any, words: list[str], place: Place, mark: Mark) -> str | int:
    """Take the next step off a path: an index of a list, or a key of a mapping (the longest known one, dots and all)."""

    def refuse(text: str) -> NoReturn:
        raise _Refused(mark, text)

    if isinstance(here, list):
        word = words.pop(0)
        if not (word.isascii() and word.isdecimal() and len(word) < 10 and int(word) < len(here)):
            allowed = f"an index from 0 to {len(here) - 1}" if here else "it is empty"
            refuse(f"{shown(word)} is no item of the list '{dotted(place)}'; {allowed}")
        return int(word)
    if not isinstance(here, dict):
        refuse(f"'{dotted(place)}' is {shown(here)}, with nothing inside; only mappings and lists have parts")
    count = next((n for n in range(len(words), 0, -1) if ".".join(words[:n]) in here), 1)
    key = ".".join(words[:count])
    if not key:
        refuse("has an empty step; write KEY=VALUE with KEY a dotted path, such as recipe.epochs=3")
    del words[:count]
    return key
