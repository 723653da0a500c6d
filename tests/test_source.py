"""YAML text → values with positions: what scalars mean, what is refused and how it is said, what a hostile file costs."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import BenchmarkError
from harness.source import MAX_NODES, Source, dotted, read_source, shown


def read(folder: Path, text: str | bytes, *overrides: str) -> Source:
    path = folder / "b.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_source(path, overrides)


def lines(source: Source) -> list[str]:
    return [line.replace(str(source.path), "b.yaml") for line in source.error(source.problems).problems]


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(BenchmarkError) as caught:
        read(folder, text)
    [line] = caught.value.problems
    return line.replace(str(folder / "b.yaml"), "b.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e+2", -150.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        (".", "."),
        ("1e", "1e"),
        ("10:30", "10:30"),
        ("1:2:3", "1:2:3"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("'3'", "3"),
        ('"true"', "true"),
        ("!!str 3", "3"),
        ("!!int 3", 3),
        ("!!float 3", 3.0),
        ("!!null ~", None),
        ("!!seq [1]", [1]),
        ("!!map {a: 1}", {"a": 1}),
        ("9223372036854775807", 2**63 - 1),
        ("|-\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalar(tmp_path: Path, text: str, value: Any) -> None:
    """A scalar means what YAML 1.2's core schema says."""
    source = read(tmp_path, f"a: {text}\n")
    assert source.data == {"a": value}
    assert type(source.data["a"]) is type(value)
    assert source.problems == ()


def test_not_a_number(tmp_path: Path) -> None:
    """.nan is a float."""
    assert math.isnan(read(tmp_path, "a: .nan").data["a"])


def test_positions(tmp_path: Path) -> None:
    """Every key and every value knows its line and column, from 1."""
    source = read(tmp_path, "seeds: [0, 1]\nrecipe:\n  epochs: 3\nlist:\n  - a: {b: c}\nempty:\n")
    spots = {dotted(place): (spot.key[:2], spot.value[:2]) for place, spot in source.marks.items()}
    assert spots == {
        "": ((1, 1), (1, 1)),
        "seeds": ((1, 1), (1, 8)),
        "seeds[0]": ((1, 9), (1, 9)),
        "seeds[1]": ((1, 12), (1, 12)),
        "recipe": ((2, 1), (3, 3)),
        "recipe.epochs": ((3, 3), (3, 11)),
        "list": ((4, 1), (5, 3)),
        "list[0]": ((5, 5), (5, 5)),
        "list[0].a": ((5, 5), (5, 8)),
        "list[0].a.b": ((5, 9), (5, 12)),
        "empty": ((6, 1), (6, 7)),
    }


def test_position_of_something_missing(tmp_path: Path) -> None:
    """A place that the file lacks stands where the nearest one around it does."""
    source = read(tmp_path, "a: 1\nrecipe:\n  epochs: 3\n")
    assert source.where(("recipe", "augmentation", "hue")) == f"{source.path}:3:3"


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    """Neither is seen in values nor shifts positions."""
    source = read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert source.data == {"a": 1, "b": "x"}
    assert source.where(("b",)) == f"{source.path}:2:4"


def test_merge_keys(tmp_path: Path) -> None:
    """`<<` fills in what a mapping lacks; of several, the first wins; positions are those of the text that was written."""
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 9}\nw: {<<: *x}\nquoted: {'<<': 1}\n"
    source = read(tmp_path, text)
    assert source.data["z"] == {"a": 9, "b": 2, "c": 4}
    assert source.data["w"] == {"a": 1, "b": 2}
    assert source.data["quoted"] == {"<<": 1}
    assert source.where(("z", "c")) == f"{source.path}:2:17"


def test_aliases_are_fresh_values(tmp_path: Path) -> None:
    """A change to one use of an anchor leaves the others alone."""
    source = read(tmp_path, "a: &x {n: [1]}\nb: *x\n", "b.n.0=2")
    assert source.data == {"a": {"n": [1]}, "b": {"n": [2]}}


# What is refused outright


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "b.yaml: is empty; a benchmark file is a YAML mapping of keys and values"),
        (b"# nothing\n---\n", "b.yaml: is empty; a benchmark file is a YAML mapping of keys and values"),
        (b"[1, 2]", "b.yaml:1:1: the file holds [1, 2]; a benchmark file is a YAML mapping of keys and values"),
        (b"deep", "b.yaml:1:1: the file holds 'deep'; a benchmark file is a YAML mapping of keys and values"),
        (b"a: 1\n---\nb: 2", "b.yaml:2:1: a second document begins here; a benchmark file holds one"),
        (b"a: 1\nb: \xff", "b.yaml:2:4: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        ("a: é".encode("utf-16"), "b.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        (b"a: b\0", "b.yaml:1:5: character U+0000 cannot stand in a text file; save the file as UTF-8 text"),
        (b"a: 1\nb: \x1b[1m", "b.yaml:2:4: character U+001B cannot stand in a text file; save the file as UTF-8 text"),
        (b"a" * (10 << 20), "b.yaml: is larger than a benchmark file can be; at most 256 KiB"),
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
def test_refused(tmp_path: Path, text: bytes, line: str) -> None:
    """A text of which nothing can be made is refused in one line: where, what, what is allowed."""
    assert refusal(tmp_path, text) == line


def test_no_file(tmp_path: Path) -> None:
    """A missing file, a folder and an impossible name are named."""
    for path, text in [
        (tmp_path / "nope.yaml", "no such file; give the path of a benchmark file"),
        (tmp_path, "is a directory; give the path of a benchmark file in it"),
        (tmp_path / ("x" * 300), "cannot be read (File name too long); give the path of a benchmark file"),
        (Path("a\0b"), "cannot be read (embedded null byte); give the path of a benchmark file"),
    ]:
        with pytest.raises(BenchmarkError) as caught:
            read_source(path)
        assert str(caught.value) == f"{path}: {text}"


def test_billion_laughs(tmp_path: Path) -> None:
    """Aliases that expand to 9^9 values are stopped at the limit, at once."""
    rows = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else 'lol'}]" for i in range(10)]
    begun = time.perf_counter()
    assert "too many values, aliases expanded; a file has at most 100000 of them" in refusal(tmp_path, "\n".join(rows))
    assert time.perf_counter() - begun < 5


def test_merge_bomb(tmp_path: Path) -> None:
    """Merge keys count like any other expansion."""
    rows = ["k0: &k0 {" + ", ".join(f"x{i}: 1" for i in range(2000)) + "}", f"b: {{<<: [{', '.join(['*k0'] * 3000)}]}}"]
    begun = time.perf_counter()
    assert "too many values" in refusal(tmp_path, "\n".join(rows))
    assert time.perf_counter() - begun < 5


def test_aliases_too_deep(tmp_path: Path) -> None:
    """Depth counts with aliases and merge keys expanded."""
    nested = "\n".join(f"k{i}: &k{i} [{f'*k{i - 1}' if i else 1}]" for i in range(3000))
    merged = "\n".join(f"k{i}: &k{i} {{{f'<<: *k{i - 1}' if i else 'a: 1'}}}" for i in range(3000))
    assert "nested too deeply; at most 50 levels" in refusal(tmp_path, nested)
    assert "nested too deeply; at most 50 levels" in refusal(tmp_path, merged)


def test_deep_within_the_limit(tmp_path: Path) -> None:
    """As deep and as wide as allowed is read."""
    source = read(tmp_path, "a: " + "[" * 49 + "]" * 49 + "\nb: [" + "x," * (MAX_NODES // 2) + "]\n")
    assert len(source.data["b"]) == MAX_NODES // 2


# What is noted beside the rest


@pytest.mark.parametrize(
    ("text", "noted"),
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
def test_noted(tmp_path: Path, text: str, noted: list[str]) -> None:
    """What is wrong without hiding the rest is noted with its position, each once; the rest is still there."""
    source = read(tmp_path, text)
    assert lines(source) == noted
    assert "a" in source.data


def test_no_code_runs(tmp_path: Path) -> None:
    """A tag that would make PyYAML's unsafe loader run something does nothing."""
    source = read(tmp_path, f"a: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'touched'}]")
    assert len(source.problems) == 1
    assert not (tmp_path / "touched").exists()


# The command line's changes


def test_overrides(tmp_path: Path) -> None:
    """Dotted paths reach into mappings and lists, mappings on the way are made, values are YAML."""
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
    assert read(tmp_path, text, *changes).data == {
        "seeds": [0],
        "recipe": {"epochs": 5, "augmentation": {"hue": 0.1}},
        "settings": [{"dataset": "x", "recipe": {"epochs": 7}}],
        "metrics": {"x": "no"},
        "timm/a.b": {"c": 2},
        "name": "a=b",
        "description": None,
    }


def test_position_of_an_override(tmp_path: Path) -> None:
    """What the command line gave stands at its option, whatever the file had there, and sorts after the file."""
    source = read(tmp_path, "b:\n  c: {d: 1}\nz: 1\n", "b.c={e: {f: 1}}", "n.m=1")
    assert source.where(("b", "c", "e", "f")) == "--set b.c"
    assert source.where(("b", "c", "d")) == "--set b.c"
    assert source.where(("n",)) == "--set n.m"
    assert source.where(("b",)) == f"{source.path}:2:3"
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
def test_override_refused(tmp_path: Path, change: str, line: str) -> None:
    """A change that leads nowhere or is no YAML is a problem at its option; the file is still read."""
    source = read(tmp_path, "l: [1, 2]\ne: []\nn: text\nr: {}\n", change)
    assert lines(source) == [line]
    assert source.data["l"] == [1, 2]


# Words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (math.nan, ".nan"),
        (-math.inf, "-.inf"),
        ("it's", '"it\'s"'),
        ("a\nb", r"'a\nb'"),
        ("x" * 61, f"'{'x' * 40}'… (61 characters)"),
        ({"a": 1}, "a mapping of 1 key"),
        ({}, "a mapping of 0 keys"),
        ([1, (2, None)], "[1, [2, null]]"),
        (list(range(11)), "a list of 11 values"),
    ],
)
def test_shown(value: object, text: str) -> None:
    """Values are printed on one line, short, in YAML's words."""
    assert shown(value) == text


def test_dotted() -> None:
    """Places are printed as paths, long keys shortened."""
    assert dotted(("recipe", "betas", 1)) == "recipe.betas[1]"
    assert dotted(("a", "k" * 10_000)) == f"a.'{'k' * 40}'… (10000 characters)"
    assert "\n" not in dotted(("a\nb",))


# Anything at all


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.text(alphabet="ab: -[]{}&*!<?|>'\"\\%@#,\n\t~01e.x"), st.binary()))
def test_any_text(tmp_path: Path, text: str | bytes) -> None:
    """Whatever a file holds, reading ends with values or with a `BenchmarkError` of one line a problem."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        source = read(tmp_path, raw)
        problems = source.error(source.problems).problems
    except BenchmarkError as error:
        problems = error.problems
    assert all(len(line.splitlines()) == 1 for line in problems)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="al0.=[]{}:, \n&*x\0", max_size=12), max_size=3))
def test_any_override(tmp_path: Path, changes: list[str]) -> None:
    """Whatever the command line says is applied or noted."""
    read(tmp_path, "a: {l: [0, {x: 1}]}\nl: [a, l]\n", *changes)


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=5), json_like, min_size=1, max_size=4))
def test_round_trip(tmp_path: Path, values: dict[str, Any]) -> None:
    """What PyYAML writes with quoted texts reads back as it was."""

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    assert read(tmp_path, yaml.dump(values, Dumper=Dumper)).data == values
