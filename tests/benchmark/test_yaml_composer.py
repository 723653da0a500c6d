"""Syntax errors and limits of YAML texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.yaml_files import refusal


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a: 1\n---\nb: 2", "b.yaml:2:1: a second document begins here; a benchmark file holds one"),
        (b"a: b\0", "b.yaml:1:5: character U+0000 cannot stand in a text file; save the file as UTF-8 text"),
        (b"a: 1\nb: \x1b[1m", "b.yaml:2:4: character U+001B cannot stand in a text file; save the file as UTF-8 text"),
        (
            b"a:\n\tb: 1",
            "b.yaml:2:1: not YAML: found character '\\t' that cannot start any token; indent with spaces, not with tabs",
        ),
        (
            b"a: @b",
            "b.yaml:1:4: not YAML: found character '@' that cannot start any token; "
            "quote a text that begins with this character",
        ),
        (
            b"a: b: c",
            "b.yaml:1:5: not YAML: mapping values are not allowed here; "
            "check the indentation, and quote a text that holds a colon",
        ),
        (
            b"a: 1\nb\nc: 2",
            "b.yaml:3:1: not YAML: could not find expected ':' (while scanning a simple key, begun at 2:1); "
            "write 'key: value', and check the indentation",
        ),
        (
            b"a:\n  b: 1\n c: 2",
            "b.yaml:3:2: not YAML: expected <block end>, but found '<block mapping start>' (while parsing a block mapping, "
            "begun at 1:1); check the indentation",
        ),
        (
            b"a: [1, 2",
            "b.yaml:1:9: not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence, begun at 1:4); "
            "close the bracket, and put commas between values",
        ),
        (
            b"a: 'x",
            "b.yaml:1:6: not YAML: found unexpected end of stream (while scanning a quoted scalar, begun at 1:4); "
            "close the quotes",
        ),
        (b"a: *x", "b.yaml:1:4: not YAML: found undefined alias 'x'; an alias '*name' stands after its anchor '&name'"),
        (
            b"a: &x 1\nb: &x 2",
            "b.yaml:2:4: not YAML: second occurrence (found duplicate anchor 'x'; first occurrence, begun at 1:4); "
            "check indentation, brackets and quotes",
        ),
        (b'a: "\\UFFFFFFFF"', "b.yaml:1:7: not YAML: a number out of range; check escapes and directives"),
        (b"%YAML 1." + b"9" * 5000, "b.yaml:1:9: not YAML: a number out of range; check escapes and directives"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_syntax_error(tmp_path: Path, text: bytes, line: str) -> None:
    """The error is one line: where, what is wrong, a hint."""
    assert refusal(tmp_path, text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[" * 5000, "b.yaml:1:52: nested too deeply; at most 50 levels"),
        (b"- " * 5000, "b.yaml:1:103: nested too deeply; at most 50 levels"),
        (b"a: {" * 5000, "b.yaml:1:201: nested too deeply; at most 50 levels"),
        (
            b"a: [" + b"x," * 120_000 + b"]",
            "b.yaml:1:199999: too many values, aliases expanded; a file has at most 100000 of them",
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_limit(tmp_path: Path, text: bytes, line: str) -> None:
    """A text with too many nodes or levels is an error at the first one beyond the limit."""
    assert refusal(tmp_path, text) == line
