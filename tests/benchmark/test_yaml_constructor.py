"""Nodes → values: tags, merge keys and aliases, and problems that do not prevent reading the rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmark.yaml_files import problem_lines, read_text, refusal
from harness.benchmark.yaml_composer import MAX_NODES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("'3'", "3"),
        ('"true"', "true"),
        ("!!str 3", "3"),
        ("!!int 3", 3),
        ("!!float 3", 3.0),
        ("!!null ~", None),
        ("!!seq [1]", [1]),
        ("!!map {a: 1}", {"a": 1}),
        ("|-\n  two\n  lines", "two\nlines"),
    ],
)
def test_quoted_and_tagged(tmp_path: Path, text: str, value: Any) -> None:
    """Quotes and tags determine the type of a scalar."""
    source = read_text(tmp_path, f"a: {text}\n")
    assert source.data == {"a": value}
    assert type(source.data["a"]) is type(value)
    assert source.problems == ()


def test_merge_keys(tmp_path: Path) -> None:
    """`<<` adds keys that a mapping lacks, from the first mapping that has them; positions are those in the text."""
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 9}\nw: {<<: *x}\nquoted: {'<<': 1}\n"
    source = read_text(tmp_path, text)
    assert source.data["z"] == {"a": 9, "b": 2, "c": 4}
    assert source.data["w"] == {"a": 1, "b": 2}
    assert source.data["quoted"] == {"<<": 1}
    assert source.describe_position(("z", "c")) == f"{source.path}:2:17"


def test_billion_laughs(tmp_path: Path) -> None:
    """Aliases that expand to 9^9 values exceed the limit, within seconds."""
    rows = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else 'lol'}]" for i in range(10)]
    start = time.perf_counter()
    assert "too many values, aliases expanded; a file has at most 100000 of them" in refusal(tmp_path, "\n".join(rows))
    assert time.perf_counter() - start < 5


def test_merge_bomb(tmp_path: Path) -> None:
    """Expanded merge keys count toward the limit."""
    rows = ["k0: &k0 {" + ", ".join(f"x{i}: 1" for i in range(2000)) + "}", f"b: {{<<: [{', '.join(['*k0'] * 3000)}]}}"]
    start = time.perf_counter()
    assert "too many values" in refusal(tmp_path, "\n".join(rows))
    assert time.perf_counter() - start < 5


def test_aliases_too_deep(tmp_path: Path) -> None:
    """Expanded aliases and merge keys count toward the depth."""
    nested = "\n".join(f"k{i}: &k{i} [{f'*k{i - 1}' if i else 1}]" for i in range(3000))
    merged = "\n".join(f"k{i}: &k{i} {{{f'<<: *k{i - 1}' if i else 'a: 1'}}}" for i in range(3000))
    assert "nested too deeply; at most 50 levels" in refusal(tmp_path, nested)
    assert "nested too deeply; at most 50 levels" in refusal(tmp_path, merged)


def test_depth_and_size_at_the_limit(tmp_path: Path) -> None:
    """The file is read."""
    source = read_text(tmp_path, "a: " + "[" * 49 + "]" * 49 + "\nb: [" + "x," * (MAX_NODES // 2) + "]\n")
    assert len(source.data["b"]) == MAX_NODES // 2


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "a: 1\nb: {c: 1, c: 2, c: 3}\na: 2\n",
            [
                "b.yaml:2:11: key 'c' appears twice in one mapping, first in line 2; keep one of them",
                "b.yaml:2:17: key 'c' appears twice in one mapping, first in line 2; keep one of them",
                "b.yaml:3:1: key 'a' appears twice in one mapping, first in line 1; keep one of them",
            ],
        ),
        (
            "a: &a {x: 1}\nb: {<<: *a, <<: *a}",
            ["b.yaml:2:13: key '<<' appears twice in one mapping, first in line 2; keep one of them"],
        ),
        ("a: 1\n3: x\n", ["b.yaml:2:1: key 3 is not a text; keys are texts, quote it"]),
        ("a: 1\n~: x\n", ["b.yaml:2:1: key null is not a text; keys are texts, quote it"]),
        ("a: 1\ntrue: x\n", ["b.yaml:2:1: key true is not a text; keys are texts, quote it"]),
        ("a: 1\n? [x]\n: 2\n", ["b.yaml:2:3: a list or mapping as a key; keys are texts"]),
        ("a: &a [*a]", ["b.yaml:1:4: an alias inside the value that it stands for; aliases cannot be recursive"]),
        ("a: &a {<<: *a}", ["b.yaml:1:4: an alias inside the value that it stands for; aliases cannot be recursive"]),
        (
            "a: {<<: 3}",
            ["b.yaml:1:9: '<<' merges something else than a mapping; an alias of a mapping, or a list of them"],
        ),
        (
            "a: !!python/object/apply:os.system [ls]\nb: !mine 3\nc: !!set {x}\nd: !!int x",
            [
                f"b.yaml:{line}:4: tag '{tag}' is not allowed here; "
                "leave it out, values are plain texts, numbers, lists, mappings"
                for line, tag in enumerate(("!!python/object/apply:os.system", "!mine", "!!set", "!!int"), start=1)
            ],
        ),
        (
            "a: 9223372036854775808",
            ["b.yaml:1:4: integer '9223372036854775808' is too large; at most 9223372036854775807 in size"],
        ),
        (
            "a: 1" + "0" * 5000,
            [
                "b.yaml:1:4: integer '1000000000000000000000000000000000000000'… (5001 characters) is too large; "
                "at most 9223372036854775807 in size"
            ],
        ),
        (
            f"a: 0x{'f' * 99}",
            [
                "b.yaml:1:4: integer '0xffffffffffffffffffffffffffffffffffffff'… (101 characters) is too large; "
                "at most 9223372036854775807 in size"
            ],
        ),
        ('a: "\\ud800"', ["b.yaml:1:4: half a surrogate pair in a text; write the whole character"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_problem_that_does_not_prevent_reading(tmp_path: Path, text: str, lines: list[str]) -> None:
    """It is reported once with its position, and the other values are read."""
    source = read_text(tmp_path, text)
    assert problem_lines(source) == lines
    assert "a" in source.data


def test_no_code_runs(tmp_path: Path) -> None:
    """A tag that runs code in PyYAML's unsafe loader is a problem and runs nothing."""
    source = read_text(tmp_path, f"a: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'touched'}]")
    assert len(source.problems) == 1
    assert not (tmp_path / "touched").exists()
