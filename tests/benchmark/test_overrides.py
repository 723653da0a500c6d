"""Overrides of the command line: `--set KEY=VALUE`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.yaml_files import problem_lines, read_text


def test_overrides(tmp_path: Path) -> None:
    """Dotted paths lead into mappings and lists, missing mappings are created, and values are YAML."""
    text = "seeds: [0, 1]\nrecipe: {epochs: 3}\nsettings:\n  - dataset: x\nmetrics:\ntimm/a.b: {c: 1}\n"
    changes = [
        "recipe.epochs=5",
        "recipe.augmentation.hue=1e-1",
        "seeds=[0]",
        "settings.0.recipe={epochs: 7}",
        "metrics.x=no",
        "timm/a.b.c=2",
        "name=a=b",
        "description=",
    ]
    assert read_text(tmp_path, text, *changes).data == {
        "seeds": [0],
        "recipe": {"epochs": 5, "augmentation": {"hue": 0.1}},
        "settings": [{"dataset": "x", "recipe": {"epochs": 7}}],
        "metrics": {"x": "no"},
        "timm/a.b": {"c": 2},
        "name": "a=b",
        "description": None,
    }


def test_override_of_an_alias(tmp_path: Path) -> None:
    """Other uses of the anchor keep their value."""
    source = read_text(tmp_path, "a: &x {n: [1]}\nb: *x\n", "b.n.0=2")
    assert source.data == {"a": {"n": [1]}, "b": {"n": [2]}}


def test_position_of_an_override(tmp_path: Path) -> None:
    """A value of the command line has the position of its option, which sorts after the file."""
    source = read_text(tmp_path, "b:\n  c: {d: 1}\nz: 1\n", "b.c={e: {f: 1}}", "n.m=1")
    assert source.describe_position(("b", "c", "e", "f")) == "--set b.c"
    assert source.describe_position(("b", "c", "d")) == "--set b.c"
    assert source.describe_position(("n",)) == "--set n.m"
    assert source.describe_position(("b",)) == f"{source.path}:2:3"
    problems = [source.problem(place, "!") for place in [("n",), ("b", "c"), ("z",)]]
    assert [line.rsplit(" ", 1)[0].removeprefix(str(source.path)) for line in source.error(problems).problems] == [
        ":3:4:",
        "--set b.c:",
        "--set n.m:",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("epochs", "--set epochs: has no '='; write KEY=VALUE, such as recipe.epochs=3"),
        ("=3", "--set : has an empty step; write KEY=VALUE with KEY a dotted path, such as recipe.epochs=3"),
        ("r..x=3", "--set r..x: has an empty step; write KEY=VALUE with KEY a dotted path, such as recipe.epochs=3"),
        ("l.2=3", "--set l.2: '2' is no item of the list 'l'; an index from 0 to 1"),
        ("l.-1=3", "--set l.-1: '-1' is no item of the list 'l'; an index from 0 to 1"),
        ("l.²=3", "--set l.²: '²' is no item of the list 'l'; an index from 0 to 1"),
        ("e.0=3", "--set e.0: '0' is no item of the list 'e'; it is empty"),
        ("n.x=3", "--set n.x: 'n' is 'text', with nothing inside; only mappings and lists have parts"),
        ("l.0.x=3", "--set l.0.x: 'l[0]' is 1, with nothing inside; only mappings and lists have parts"),
        (f"{'a.' * 60}b=1", f"--set {('a.' * 20)!r}… (121 characters): has 61 steps; at most 50"),
        (
            "r=[1",
            "--set r: not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence, begun at 1:1); "
            "close the bracket, and put commas between values",
        ),
        ("r=a\0", "--set r: character U+0000 cannot stand in a text file; save the file as UTF-8 text"),
        ("r={a: 1, a: 2}", "--set r: key 'a' appears twice in one mapping; keep one of them"),
        (
            "r=!x 1",
            "--set r: tag '!x' is not allowed here; leave it out, values are plain texts, numbers, lists, mappings",
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_invalid_override(tmp_path: Path, change: str, line: str) -> None:
    """An override whose path does not exist, or whose value is not YAML, is a problem at its option; the file is still read."""
    source = read_text(tmp_path, "l: [1, 2]\ne: []\nn: text\nr: {}\n", change)
    assert problem_lines(source) == [line]
    assert source.data["l"] == [1, 2]


def test_values_after_an_invalid_override(tmp_path: Path) -> None:
    """They are unchanged, without new mappings."""
    source = read_text(tmp_path, "metrics:\na: 1\n", "metrics..x=1", "b.c..d=1")
    assert source.data == {"metrics": None, "a": 1}


def test_later_override_inside_an_earlier_one(tmp_path: Path) -> None:
    """Each value has the position of the override that gave it."""
    source = read_text(tmp_path, "a: {b: 1}\n", "a={c: {d: 1}}", "a.c.d=2", "a.e.f=3")
    assert source.data == {"a": {"c": {"d": 2}, "e": {"f": 3}}}
    assert source.describe_position(("a", "b")) == "--set a"
    assert source.describe_position(("a", "c")) == "--set a"
    assert source.describe_position(("a", "c", "d")) == "--set a.c.d"
    assert source.describe_position(("a", "e")) == "--set a.e.f"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="al0.=[]{}:, \n&*x\0", max_size=12), max_size=3))
def test_any_override(tmp_path: Path, changes: list[str]) -> None:
    """Any text is applied or reported, without an exception."""
    read_text(tmp_path, "a: {l: [0, {x: 1}]}\nl: [a, l]\n", *changes)
