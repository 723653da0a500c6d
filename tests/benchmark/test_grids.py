"""Grids: one method per combination of values."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from benchmark.toy_catalogue import file_text, load, problems
from harness import Options
from harness.benchmark.validation import validate_options


def test_grid(tmp_path: Path) -> None:
    """A grid is one method for each combination, labeled by its values."""
    methods = "[deep, distilled: {beta: 0.5, label: d, grid: {fork_epoch: [5, 10], layers: [[1], []]}}, constrained: {grid: {inherit: [yes]}}]"
    benchmark = load(tmp_path, file_text(methods=methods))
    assert [(m.label, m.plugin.options.model_dump(exclude_defaults=True)) for m in benchmark.setups[0].methods] == [
        ("deep", {}),
        ("d(fork_epoch=5,layers=[1])", {"fork_epoch": 5, "beta": 0.5, "layers": (1,)}),
        ("d(fork_epoch=5,layers=[])", {"fork_epoch": 5, "beta": 0.5}),
        ("d(fork_epoch=10,layers=[1])", {"fork_epoch": 10, "beta": 0.5, "layers": (1,)}),
        ("d(fork_epoch=10,layers=[])", {"fork_epoch": 10, "beta": 0.5}),
        ("constrained(inherit=yes)", {}),
    ]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"methods": "[constrained: {fork_epohc: 3}]"}, ["b.yaml:4:25: unknown key 'fork_epohc'; did you mean 'fork_epoch'? known: fork_epoch, grid, inherit, label"]),
        ({"methods": "[constrained: {grid: {fork_epoch: [1, x]}}]"}, ["b.yaml:4:48: constrained.fork_epoch: 'x' is not an integer; an integer of at least 0 or null"]),
        ({"methods": "[constrained: {grid: [1]}]"}, ["b.yaml:4:31: grid: [1] is not a grid; options with lists of values, such as {beta: [0.2, 0.5]}"]),
        ({"methods": "[constrained: {grid: {}}]"}, ["b.yaml:4:31: grid: a mapping of 0 keys is not a grid; options with lists of values, such as {beta: [0.2, 0.5]}"]),
        ({"methods": "[constrained: {fork_epoch: [1, 2]}]"}, ["b.yaml:4:37: constrained.fork_epoch: [1, 2] is not an integer; an integer of at least 0 or null; to compare several, `grid: {fork_epoch: […]}`"]),
        ({"methods": "[distilled: {grid: {fork_epoch: 3}}]"}, ["b.yaml:4:42: grid.fork_epoch: 3 is not a list of values; such as [1, 2]"]),
        ({"methods": "[distilled: {grid: {fork_epoch: []}}]"}, ["b.yaml:4:42: grid.fork_epoch: [] is not a list of values; such as [1, 2]"]),
        ({"methods": "[distilled: {grid: {fork_epoch: [1, 1]}}]"}, ["b.yaml:4:42: grid.fork_epoch: [1, 1] lists a value twice; list each once"]),
        ({"methods": "[distilled: {fork_epoch: 1, grid: {fork_epoch: [1]}}]"}, ["b.yaml:4:45: 'fork_epoch' is given beside the grid too; give it once"]),
        ({"methods": "[distilled: {grid: {fork: [1]}}]"}, ["b.yaml:4:30: unknown key 'fork'; did you mean 'fork_epoch'? known: beta, fork_epoch, layers, teacher"]),
        ({"methods": f"[constrained: {{grid: {{fork_epoch: {list(range(99))}, inherit: {list(range(99))}}}}}]"}, ["b.yaml:4:31: grid: makes 9801 methods; at most 1000"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_wrong_grid(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """A wrong grid is one line at the grid, its option or its value."""
    assert problems(tmp_path, file_text(**lists)) == lines


@pytest.mark.parametrize("value", ["99999999999999999999999", "!mine [1]", "&a [*a]"])
def test_grid_value_that_cannot_be_read(tmp_path: Path, value: str) -> None:
    """A value that cannot be read is one line, whether or not it could have been a list."""
    [line] = problems(tmp_path, file_text(methods=f"[constrained: {{grid: {{fork_epoch: {value}}}}}]"))
    assert line.startswith("b.yaml:4:")


def test_list_that_an_option_takes() -> None:
    """A list of the wrong length is no grid, so the message says what lists the option takes."""

    class Named(Options):
        """Options with a list."""

        names: tuple[str, ...] = Field(("a",), min_length=1, description="some names")

    values, [issue] = validate_options(Named, {"names": []}, reserved=("label", "grid"))
    assert values is None
    assert issue.text == "[] is too short; a list of at least 1 (each a text)"
