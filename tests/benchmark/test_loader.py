"""Benchmark files as a whole: valid ones, many mistakes at once, limits and hostile files."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.toy_catalogue import (
    CATALOGUE,
    KNOWN_AT_TOP,
    KNOWN_IN_RECIPE,
    PLUGINS,
    CrossEntropy,
    Marked,
    Unmarked,
    catalogue_of,
    file_text,
    load,
    problems,
    write,
)
from harness.api.recipe import Recipe
from harness.benchmark import json_schema, load_benchmark
from harness.errors import BenchmarkError
from harness.registry.catalogue import load_catalogue

ROOT = Path(__file__).parents[2]


def test_smallest_file(tmp_path: Path) -> None:
    """Four keys are enough; the others have defaults, and the name is that of the file."""
    benchmark = load(tmp_path, file_text())
    assert (benchmark.name, benchmark.description, benchmark.members, benchmark.seeds) == ("b", "", 5, (0,))
    assert [metric.label for metric in benchmark.metrics] == ["ensemble_accuracy", "mean_member_accuracy", "joint_connectivity"]
    assert benchmark.objective.name == "cross_entropy"
    [cell] = benchmark.cells()
    assert cell.recipe == Recipe()
    assert (cell.dataset.label, cell.architecture.label, cell.method.label) == ("cifar10", "resnet20", "deep")


def test_no_default_objective_or_metric(tmp_path: Path) -> None:
    """If no plugin marks a default, or several do, the error names the missing key and the registered names."""
    without = {**PLUGINS, "metric": [Unmarked], "objective": []}
    with pytest.raises(BenchmarkError) as error:
        load_benchmark(write(tmp_path, file_text()), catalogue_of(without))
    assert "'metrics' is missing, and no plugin marks a default; give one of: unmarked" in str(error.value)
    assert "'objective' is missing, and no plugin marks a default; give one of: none is registered" in str(error.value)
    twice = {**PLUGINS, "objective": [CrossEntropy, Marked, Unmarked]}
    with pytest.raises(
        BenchmarkError, match=r"plugins mark 2 defaults: cross_entropy, marked; give one of: cross_entropy, mar"
    ):
        load_benchmark(write(tmp_path, file_text()), catalogue_of(twice))


def test_empty_sections(tmp_path: Path) -> None:
    """An optional key without a value counts as missing."""
    keys = ("name", "description", "members", "metrics", "equivalence", "objective", "recipe", "settings")
    assert load(tmp_path, file_text("\n".join(f"{key}:" for key in keys))).resolved() == load(tmp_path, file_text()).resolved()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("paper.yaml", "paper"),
        ("My Paper, v2.yml", "my-paper-v2"),
        ("__x.yaml", "x"),
        ("ä.yaml", "benchmark"),
        ("x" * 200, "x" * 100),
    ],
)
def test_name_from_file(tmp_path: Path, file: str, name: str) -> None:
    """The default name is the file's, with other characters replaced."""
    (tmp_path / file).write_text(file_text())
    assert load_benchmark(tmp_path / file, CATALOGUE).name == name


def test_overrides(tmp_path: Path) -> None:
    """Overrides of the command line replace values of the file."""
    benchmark = load(
        tmp_path,
        file_text(),
        "recipe.epochs=3",
        "seeds=[4]",
        "settings=[{dataset: cifar10, recipe: {batch_size: 8}}]",
        "methods.0={constrained: {fork_epoch: 2}}",
    )
    [cell] = benchmark.cells()
    assert (cell.recipe.epochs, cell.recipe.batch_size, cell.seed, cell.method.label) == (3, 8, 4, "constrained")


def test_anchors(tmp_path: Path) -> None:
    """Keys that begin with x- are ignored and may hold anchors."""
    more = "x-fast: &fast {epochs: 4}\nrecipe: {<<: *fast, batch_size: 9}"
    assert load(tmp_path, file_text(more)).setups[0].recipe == Recipe(epochs=4, batch_size=9)


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Each problem is listed once, in the order of the file; those of the command line come last."""
    content = file_text(
        "recipe:\n"
        "  epochs: 10\n"
        "  epoch: 3\n"
        "  epoch: 4\n"
        "settings:\n"
        "  - dataset: [cifar10, cifer]\n"
        "    recipe: {epochs: 0}\n"
        "    method_options: {fork_epoch: -1, forks: 1}\n",
        seeds="[0, 0]",
        datasets="[cifar10, tiny_imagenet]",
        architectures="[resnet20, timm/vit_base]",
        methods="[constrained: {fork_epoch: 10}, distilled, constrained: {label: b}]",
    )
    assert problems(tmp_path, content, "members=x", "recipe.warmup=2", "seeds.7=1") == [
        "b.yaml:1:8: seeds: 0 is listed 2 times; seeds are all different",
        "b.yaml:4:42: distilled on tiny_imagenet × resnet20, tiny_imagenet × timm/vit_base: "
        "fork_epoch is missing; an integer of at least 0",
        f"b.yaml:7:3: unknown key 'epoch'; did you mean 'epochs'? known: {KNOWN_IN_RECIPE}",
        "b.yaml:8:3: key 'epoch' appears twice in one mapping, first in line 7; keep one of them",
        "b.yaml:10:24: no dataset of this file is called 'cifer'; did you mean 'cifar10'? known: cifar10, tiny_imagenet",
        "b.yaml:11:22: recipe.epochs: 0 is out of range; an integer of at least 1 and at most 100000",
        "b.yaml:12:34: method_options.fork_epoch: -1 is out of range; an integer of at least 0",
        "b.yaml:12:34: method_options.fork_epoch: -1 is out of range; an integer of at least 0 or null",
        "b.yaml:12:38: no method of this file has an option 'forks'; did you mean 'fork_epoch'? "
        "known: beta, fork_epoch, inherit, layers, teacher",
        "--set members: members: 'x' is not an integer; an integer of at least 1 and at most 10000",
        "--set recipe.warmup: recipe.warmup: 2 is out of range; a number of at least 0 and below 1",
        "--set seeds.7: '7' is no item of the list 'seeds'; an index from 0 to 1",
    ]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"seeds": str(list(range(9_000))).replace(" ", ""), "methods": "[constrained: {grid: {fork_epoch: [1, 2, 3, 4], inherit: [yes, no, on]}}]"}, ["b.yaml:1:1: makes 108000 cells; at most 100000"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_too_many_cells(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """A benchmark of more cells than allowed is refused."""
    assert problems(tmp_path, file_text(**lists)) == lines


@pytest.mark.parametrize("key", ["name", "description", "seeds", "members", "metrics", "recipe", "settings", "objective"])
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
def test_number_that_is_not_finite(tmp_path: Path, key: str, value: str) -> None:
    """An infinity or a NaN as the value of any key is reported once."""
    content = file_text(seeds=value) if key == "seeds" else file_text(f"{key}: {value}")
    found = [line for line in problems(tmp_path, content) if "is not a finite number" in line]
    line = 1 if key == "seeds" else 5
    assert found == [
        f"b.yaml:{line}:{len(key) + 3}: {value} is not a finite number; every number in a benchmark file is finite"
    ]


@pytest.mark.parametrize("seeds", ["x", ".inf", "[]"])
def test_too_many_setups_without_seeds(tmp_path: Path, seeds: str) -> None:
    """Wrong seeds do not lift the limit on the size of a benchmark."""
    names = "[" + "a," * 10_000 + "]"
    start = time.perf_counter()
    found = problems(tmp_path, file_text(seeds=seeds, datasets=names, architectures=names))
    assert "b.yaml:1:1: makes 100000000 cells; at most 100000" in found
    assert time.perf_counter() - start < 20


def test_ten_thousand_cells(tmp_path: Path) -> None:
    """Ten thousand cells take well below a second, reading and checking included."""
    labels = range(10)
    content = file_text(
        "settings:\n" + "".join(f"  - {{dataset: d{i}, recipe: {{epochs: {i + 20}}}}}\n" for i in labels),
        seeds=str(list(range(10))),
        datasets=f"[{', '.join(f'cifar10: {{label: d{i}}}' for i in labels)}]",
        architectures=f"[{', '.join(f'resnet20: {{label: a{i}}}' for i in labels)}]",
        methods=f"[{', '.join(f'constrained: {{fork_epoch: {i}, label: m{i}}}' for i in labels)}]",
    )
    start = time.perf_counter()
    assert len(list(load(tmp_path, content).cells())) == 10_000
    assert time.perf_counter() - start < 1


def test_no_torch() -> None:
    """Checking a file imports no torch."""
    code = "import sys, harness.benchmark; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0" * 100, "U+0000"),
        (b"x: " * 4_000_000, "larger than"),
        (b"[" * 5000, "nested too deeply"),
        (b"{a: " * 5000, "nested too deeply"),
        (b"", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"seeds:\n\t- 0", "indent with spaces"),
    ],
)
def test_hostile_file(tmp_path: Path, content: bytes, words: str) -> None:
    """A hostile file is refused in one line."""
    [line] = problems(tmp_path, content)
    assert words in line
    assert len(line) < 400


def test_file_full_of_mistakes(tmp_path: Path) -> None:
    """A file of the allowed size with many mistakes is checked in seconds."""
    rows = "".join(f"  - {{dataset: d{i}, recipe: {{epochs: x, e{i}: 1}}, method_options: {{o{i}: 1}}}}\n" for i in range(300))
    content = file_text(
        f"settings:\n{rows}", datasets=str([f"d{i}" for i in range(1000)]), methods=str([f"m{i}" for i in range(100)])
    )
    start = time.perf_counter()
    assert len(problems(tmp_path, content)) > 1500
    assert time.perf_counter() - start < 30


words = st.sampled_from(["cifar10", "resnet20", "deep", "distilled", "label", "grid", "fork_epoch", "epochs", "x-", "", "é|\n"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=12,
)
keys = st.sampled_from([*KNOWN_AT_TOP.split(", "), "unknown"])
entries = st.lists(st.one_of(words, st.dictionaries(words, values, max_size=2)), max_size=3)
files = st.dictionaries(keys, st.one_of(values, entries), max_size=11)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.binary(), files.map(lambda file: yaml.safe_dump(file))))
def test_any_content(tmp_path: Path, content: str | bytes) -> None:
    """Any file gives a benchmark, or a `BenchmarkError` with distinct lines that begin with the path."""
    try:
        load(tmp_path, content)
    except BenchmarkError as error:
        found = error.problems
    else:
        found = ()
    assert len(set(found)) == len(found)
    assert all(line.startswith(str(tmp_path / "b.yaml")) and len(line.splitlines()) == 1 for line in found)


def test_example_in_the_reference(tmp_path: Path) -> None:
    """The complete example of docs/benchmark-file.md loads with the installed plugins and is valid for the JSON schema."""
    pages = (ROOT / "docs" / "benchmark-file.md").read_text(encoding="utf-8")
    example = max(re.findall(r"```yaml\n(.*?)```", pages, re.DOTALL), key=len)
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
    benchmark = load_benchmark(tmp_path / "example.yaml", load_catalogue())
    assert len(list(benchmark.cells())) > 10
    validator = jsonschema.Draft202012Validator(json_schema(load_catalogue()))
    assert list(validator.iter_errors(yaml.safe_load(example))) == []
