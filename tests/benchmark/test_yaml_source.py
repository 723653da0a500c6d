"""Files → values with positions, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.yaml_files import read_text, refusal
from harness.benchmark.problems import KeyPath
from harness.benchmark.yaml_source import read_source
from harness.errors import BenchmarkError


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "b.yaml: is empty; a benchmark file is a YAML mapping of keys and values"),
        (b"# nothing\n---\n", "b.yaml: is empty; a benchmark file is a YAML mapping of keys and values"),
        (b"[1, 2]", "b.yaml:1:1: the file holds [1, 2]; a benchmark file is a YAML mapping of keys and values"),
        (b"deep", "b.yaml:1:1: the file holds 'deep'; a benchmark file is a YAML mapping of keys and values"),
        (b"a: 1\nb: \xff", "b.yaml:2:4: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        ("a: é".encode("utf-16"), "b.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8 text"),
        (b"a" * (10 << 20), "b.yaml: is larger than a benchmark file can be; at most 256 KiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_unusable_file(tmp_path: Path, text: bytes, line: str) -> None:
    """A file that holds no mapping, is too large or is not UTF-8 gives one line."""
    assert refusal(tmp_path, text) == line


def test_no_file(tmp_path: Path) -> None:
    """The error names a missing file, a folder or an invalid path."""
    for path, text in [
        (tmp_path / "nope.yaml", "no such file; give the path of a benchmark file"),
        (tmp_path, "is a directory; give the path of a benchmark file in it"),
        (tmp_path / ("x" * 300), "cannot be read (File name too long); give the path of a benchmark file"),
        (Path("a\0b"), "cannot be read (embedded null byte); give the path of a benchmark file"),
    ]:
        with pytest.raises(BenchmarkError) as caught:
            read_source(path)
        assert str(caught.value) == f"{path}: {text}"


def test_positions(tmp_path: Path) -> None:
    """Every key and every value has its line and column, from 1."""
    source = read_text(tmp_path, "seeds: [0, 1]\nrecipe:\n  epochs: 3\nlist:\n  - a: {b: c}\nempty:\n")
    expected: dict[KeyPath, tuple[tuple[int, int], tuple[int, int]]] = {
        (): ((1, 1), (1, 1)),
        ("seeds",): ((1, 1), (1, 8)),
        ("seeds", 0): ((1, 9), (1, 9)),
        ("seeds", 1): ((1, 12), (1, 12)),
        ("recipe",): ((2, 1), (3, 3)),
        ("recipe", "epochs"): ((3, 3), (3, 11)),
        ("list",): ((4, 1), (5, 3)),
        ("list", 0): ((5, 5), (5, 5)),
        ("list", 0, "a"): ((5, 5), (5, 8)),
        ("list", 0, "a", "b"): ((5, 9), (5, 12)),
        ("empty",): ((6, 1), (6, 7)),
    }
    spans = {path: source.span(path) for path in expected}
    assert {path: (span.key[:2], span.value[:2]) for path, span in spans.items()} == expected


def test_position_of_something_missing(tmp_path: Path) -> None:
    """A missing value has the position of the nearest value around it."""
    source = read_text(tmp_path, "a: 1\nrecipe:\n  epochs: 3\n")
    assert source.describe_position(("recipe", "augmentation", "hue")) == f"{source.path}:3:3"


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    """Neither changes values or positions."""
    source = read_text(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert source.data == {"a": 1, "b": "x"}
    assert source.describe_position(("b",)) == f"{source.path}:2:4"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.text(alphabet="ab: -[]{}&*!<?|>'\"\\%@#,\n\t~01e.x"), st.binary()))
def test_any_text(tmp_path: Path, text: str | bytes) -> None:
    """Any file gives values, or a `BenchmarkError` with one line per problem."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        source = read_text(tmp_path, raw)
        problems = source.error(source.problems).problems
    except BenchmarkError as error:
        problems = error.problems
    assert all(len(line.splitlines()) == 1 for line in problems)


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=5), json_like, min_size=1, max_size=4))
def test_round_trip(tmp_path: Path, values: dict[str, Any]) -> None:
    """Values that PyYAML writes with quoted texts are read back exactly."""

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    assert read_text(tmp_path, yaml.dump(values, Dumper=Dumper)).data == values
