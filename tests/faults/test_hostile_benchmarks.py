"""Untrusted benchmark files: bounded in time and memory, with printable errors, and with names that can be folders."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toys
from conftest import toy_file
from faults.odd_names import NAMES
from faults.rig import some
from harness.benchmark import load_benchmark
from harness.benchmark.yaml_source import read_source
from harness.errors import BenchmarkError


def laughs(levels: int) -> str:
    """Return lists of nine aliases each of the list before."""
    lines = ["l0: &l0 [lol]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"l{level}: &l{level} [{aliases}]")
    return "\n".join(lines)


def merge_chain(levels: int) -> str:
    """Return mappings that each merge the mapping before twice."""
    lines = ["k0: &k0 {y0: 1}"]
    for level in range(1, levels):
        lines.append(f"k{level}: &k{level} {{<<: [*k{level - 1}, *k{level - 1}], y{level}: 1}}")
    return "\n".join(lines)


def numbered(count: int, line: Callable[[int], str], separator: str = "\n") -> str:
    """Return a text for each number below `count`."""
    return separator.join(line(number) for number in range(count))


BOMBS = {
    "billion laughs": laughs(12),
    "quadratic": "a: &a " + "x" * 60_000 + "\nb: [" + "*a, " * 45_000 + "]",
    "merges": f"k0: &k0 {{{numbered(5000, 'x{}: 1'.format, ', ')}}}\nb: {{<<: [{', '.join(['*k0'] * 5000)}]}}",
    "merge chain": merge_chain(40),
    "deep flow": "a: " + "[" * 120_000,
    "deep blocks": numbered(600, lambda level: " " * level + "a:"),
    "deep sequences": "- " * 120_000,
    "wide": "a: [" + "x," * 120_000 + "]",
    "keys": numbered(20_000, "k{0}: {0}".format),
    "same keys": "a: 1\n" * 50_000,
    "anchors": numbered(15_000, "k{0}: &a{0} 1".format),
    "tags": "a: " + "!x " * 80_000,
    "escapes": 'a: "' + "\\U0001F4A9" * 20_000 + '"',
    "directives": "%TAG ! x\n" * 20_000 + "--- a",
    "documents": "---\n" * 60_000,
    "question marks": "? " * 120_000,
    "quotes": "a: '" + "''" * 120_000,
    "comments": "# x\n" * 60_000,
    "block scalar": "a: |\n" + " x\n" * 80_000,
    "folded": "a: >\n" + "  \n x\n" * 40_000,
    "long numbers": "a: " + "9" * 200_000,
    "colons": "a" + ": a" * 80_000,
}


def read_bomb(folder: Path, case: str) -> None:
    """Read a bomb; assert that it is accepted, or refused with short lines."""
    (folder / "b.yaml").write_text(BOMBS[case])
    problems: tuple[str, ...] = ()
    try:
        read_source(folder / "b.yaml")
    except BenchmarkError as error:
        problems = error.problems
    assert [line for line in problems if len(line) >= 1000] == []


@pytest.mark.parametrize("case", some(BOMBS, 5))
def test_time_to_read_a_yaml_bomb(tmp_path: Path, case: str) -> None:
    """It is read or refused within ten seconds."""
    start = time.process_time()
    read_bomb(tmp_path, case)
    assert time.process_time() - start < 10


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("case", BOMBS)
def test_memory_to_read_a_yaml_bomb(tmp_path: Path, case: str) -> None:
    """It is read or refused with less than 200 MiB."""
    tracemalloc.start()
    try:
        read_bomb(tmp_path, case)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("entry", ["\u2028\x1b[2J", {"blobs": {"label": "\u2028\x1b[2J"}}])
def test_name_or_label_that_is_not_printable(tmp_path: Path, entry: Any) -> None:
    """Every problem quotes it with escapes."""
    path = toy_file(tmp_path, datasets=[entry], methods=[{"constrained": {"fork_epoch": 99}}])
    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(path, toys.catalogue())
    assert len(caught.value.problems) > 1
    assert [problem for problem in caught.value.problems if not problem.isprintable()] == []


ALLOWED = "a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"
NO_FOLDERS = [name for case, name in NAMES.items() if case not in ("short", "surrogate")]  # allowed; not in any YAML file


def problem_of_name(folder: Path, name: str) -> str:
    """Return the only problem of a benchmark file with a name, from its position on."""
    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(toy_file(folder, name=name), toys.catalogue())
    [problem] = caught.value.problems
    return problem.removeprefix(f"{folder / 'toy.yaml'}:")


@pytest.mark.parametrize("name", [*NO_FOLDERS, "..", ".hidden", "a/b", "dеep"], ids=ascii)
def test_benchmark_whose_name_has_other_characters(tmp_path: Path, name: str) -> None:
    """It is refused, since the name becomes the name of a folder; the problem says which characters are allowed."""
    problem = problem_of_name(tmp_path, name)
    assert re.match(r"\d+:7: name: '", problem)
    assert problem.endswith(f"; {ALLOWED}")


@pytest.mark.parametrize("name", ["con", "nul.txt", "com7"])
def test_benchmark_with_the_name_of_a_device(tmp_path: Path, name: str) -> None:
    """It is refused, since such a folder cannot be created on some systems."""
    problem = problem_of_name(tmp_path, name)
    assert problem.endswith(f": name: '{name}' is the name of a device on some systems, and no folder's; choose another")
