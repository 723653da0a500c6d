"""A benchmark file → a frozen benchmark: what it resolves to, every message by its text, hostile files, the editor's schema."""
# ruff: noqa: E501  messages stand here as users see them, a line each

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

import harness
from harness import Architecture, Dataset, EnsembleBuilder, Metric, Objective
from harness.benchmark import Benchmark, checked, json_schema, load_benchmark
from harness.catalogue import Catalogue, Registration, load_catalogue
from harness.discovery import Source
from harness.errors import BenchmarkError, PluginError
from harness.recipe import Recipe

ROOT = Path(__file__).parents[1]


# A small catalogue


class Plain(Dataset):
    """Pictures."""

    name, shape, classes, train_size, fingerprint = "cifar10", (3, 32, 32), 10, 100, "f"
    normalisation = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    load = None


class Sized(Plain):
    """Pictures of a size."""

    name = "tiny_imagenet"

    class Options(harness.Options):
        """Options."""

        side: int = Field(64, ge=8)


class Network(Architecture):
    """A network."""

    name, build = "resnet20", None

    class Options(harness.Options):
        """Options."""

        width: int = Field(4, ge=1, description="channels")


class Family(Architecture):
    """Many networks."""

    name, build = "timm/<name>", None

    class Options(harness.Options):
        """Options."""

        pretrained: bool = False

    @classmethod
    def variants(cls) -> Iterable[str]:
        return "resnet18", "vit_base"


class Deep(EnsembleBuilder):
    """Independent runs."""

    name, build = "deep", None


class Constrained(EnsembleBuilder):
    """Runs that share a trunk."""

    name, build = "constrained", None

    class Options(harness.Options):
        """Options."""

        fork_epoch: int | None = Field(None, ge=0, description="t")
        inherit: bool = True

    def check(self, recipe: Recipe, members: int) -> None:
        fork = self.options.fork_epoch
        if fork is not None and fork >= recipe.epochs:
            raise ValueError(f"fork_epoch is {fork}; at most epochs - 1 = {recipe.epochs - 1}")


class Distilled(EnsembleBuilder):
    """Students."""

    name, build = "distilled", None

    class Options(harness.Options):
        """Options."""

        fork_epoch: int = Field(..., ge=0, description="t, which has no default")
        beta: float = Field(0.2, ge=0, le=1)
        teacher: Literal["own", "next"] = "own"
        layers: tuple[int, ...] = ()

        @model_validator(mode="after")
        def _layers_for_next(self) -> Distilled.Options:
            if self.teacher == "next" and not self.layers:
                raise ValueError("teacher 'next' learns layer by layer; list the layers")
            return self


class Refusing(EnsembleBuilder):
    """A builder whose constructor objects."""

    name, build = "refusing", None

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        raise PluginError("the solver is not installed;\ninstall it")


class Accuracy(Metric):
    """Accuracy of the average."""

    name, measure = "ensemble_accuracy", None


class MeanAccuracy(Accuracy):
    """Average of the accuracies."""

    name = "mean_member_accuracy"


class Connectivity(Accuracy):
    """Connectivity."""

    name = "joint_connectivity"

    class Options(harness.Options):
        """Options."""

        draws: int = Field(50, ge=1)

    def check(self, members: int) -> None:
        if members < 2:
            raise ValueError("needs at least 2 members, not 1")


class CrossEntropy(Objective):
    """Plain."""

    name, loss = "cross_entropy", None


class Smoothed(CrossEntropy):
    """With a constant."""

    name = "smoothed"

    class Options(harness.Options):
        """Options."""

        amount: float = 0.1


class Distillation(CrossEntropy):
    """With a teacher."""

    name, wants_teacher = "distillation", True


PLUGINS: dict[str, list[Any]] = {
    "dataset": [Plain, Sized],
    "architecture": [Network, Family],
    "ensemble_builder": [Deep, Constrained, Distilled, Refusing],
    "metric": [Accuracy, MeanAccuracy, Connectivity],
    "objective": [CrossEntropy, Smoothed, Distillation],
}
for classes in PLUGINS.values():
    for cls in classes:
        cls.__abstractmethods__ = frozenset()  # the toys do nothing
CATALOGUE = Catalogue(
    [Registration(kind, c.name, c, Source("toys", "tests 0")) for kind, found in PLUGINS.items() for c in found]
)


def text(
    more: str = "",
    *,
    seeds: str = "[0]",
    datasets: str = "[cifar10]",
    architectures: str = "[resnet20]",
    methods: str = "[deep]",
) -> str:
    """Write a file: seeds, datasets, architectures and methods in lines 1 to 4, more from line 5."""
    return f"seeds: {seeds}\ndatasets: {datasets}\narchitectures: {architectures}\nmethods: {methods}\n{more}"


def load(folder: Path, content: str | bytes, *overrides: str) -> Benchmark:
    path = folder / "b.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return load_benchmark(path, CATALOGUE, overrides)


def problems(folder: Path, content: str | bytes, *overrides: str) -> list[str]:
    with pytest.raises(BenchmarkError) as caught:
        load(folder, content, *overrides)
    return [line.replace(str(folder / "b.yaml"), "b.yaml") for line in caught.value.problems]


# What a file resolves to


def test_smallest_file(tmp_path: Path) -> None:
    """Four keys make a benchmark; the rest has defaults, the name comes from the file."""
    benchmark = load(tmp_path, text())
    assert (benchmark.name, benchmark.description, benchmark.members, benchmark.seeds) == ("b", "", 5, (0,))
    assert [metric.label for metric in benchmark.metrics] == ["ensemble_accuracy", "mean_member_accuracy", "joint_connectivity"]
    assert benchmark.objective.name == "cross_entropy"
    [cell] = benchmark.cells()
    assert cell.recipe == Recipe()
    assert (cell.dataset.label, cell.architecture.label, cell.method.label) == ("cifar10", "resnet20", "deep")


def test_empty_sections(tmp_path: Path) -> None:
    """A key with nothing after it, where a default exists, is as if left out."""
    keys = ("name", "description", "members", "metrics", "objective", "recipe", "settings")
    assert load(tmp_path, text("\n".join(f"{key}:" for key in keys))).resolved() == load(tmp_path, text()).resolved()


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
    """A file without a name lends its own, made fit."""
    (tmp_path / file).write_text(text())
    assert load_benchmark(tmp_path / file, CATALOGUE).name == name


def test_order_of_cells(tmp_path: Path) -> None:
    """Cells come for dataset, for architecture, for method, for seed."""
    benchmark = load(
        tmp_path,
        text(
            seeds="[3, 1]",
            datasets="[tiny_imagenet, cifar10]",
            architectures="[timm/vit_base, resnet20]",
            methods="[deep, constrained]",
        ),
    )
    cells = [(c.dataset.label, c.architecture.label, c.method.label, c.seed) for c in benchmark.cells()]
    assert cells == [
        (dataset, architecture, method, seed)
        for dataset in ("tiny_imagenet", "cifar10")
        for architecture in ("timm/vit_base", "resnet20")
        for method in ("deep", "constrained")
        for seed in (3, 1)
    ]


def test_entries(tmp_path: Path) -> None:
    """Entries are names, or names with options and a label; a family's member knows its variant."""
    benchmark = load(
        tmp_path,
        text(
            "metrics: [joint_connectivity: {draws: 7}]\nobjective: {smoothed: {amount: 1}}",
            datasets="[cifar10, tiny_imagenet: {side: 32, label: small}]",
            architectures="[resnet20, resnet20: {width: 1, label: narrow}, timm/resnet18: {pretrained: yes}]",
            methods="[deep: , constrained: {inherit: Off}]",
        ),
    )
    assert [(named.label, named.plugin.options.model_dump()) for named in benchmark.datasets + benchmark.architectures] == [
        ("cifar10", {}),
        ("small", {"side": 32}),
        ("resnet20", {"width": 4}),
        ("narrow", {"width": 1}),
        ("timm/resnet18", {"pretrained": True}),
    ]
    assert benchmark.architectures[2].plugin.variant == "resnet18"
    assert benchmark.pairs[0].methods[1].plugin.options.inherit is False
    assert benchmark.metrics[0].plugin.options.draws == 7
    assert benchmark.objective.options.amount == 1.0


def test_grid(tmp_path: Path) -> None:
    """A grid is one method for each combination, labelled by its values."""
    methods = "[deep, distilled: {beta: 0.5, label: d, grid: {fork_epoch: [5, 10], layers: [[1], []]}}, constrained: {grid: {inherit: [yes]}}]"
    benchmark = load(tmp_path, text(methods=methods))
    assert [(m.label, m.plugin.options.model_dump(exclude_defaults=True)) for m in benchmark.pairs[0].methods] == [
        ("deep", {}),
        ("d(fork_epoch=5,layers=[1])", {"fork_epoch": 5, "beta": 0.5, "layers": (1,)}),
        ("d(fork_epoch=5,layers=[])", {"fork_epoch": 5, "beta": 0.5}),
        ("d(fork_epoch=10,layers=[1])", {"fork_epoch": 10, "beta": 0.5, "layers": (1,)}),
        ("d(fork_epoch=10,layers=[])", {"fork_epoch": 10, "beta": 0.5}),
        ("constrained(inherit=yes)", {}),
    ]


def test_settings(tmp_path: Path) -> None:
    """Blocks lay recipes over the file's, key by key, and fill in method options; later blocks win, entries win over blocks."""
    benchmark = load(
        tmp_path,
        text(
            "recipe: {epochs: 50, augmentation: {hue: 0.1, contrast: 0}}\n"
            "settings:\n"
            "  - recipe: {batch_size: 64, augmentation: {hue: 0.2}}\n"
            "    method_options: {fork_epoch: 1}\n"
            "  - dataset: cifar10\n"
            "    method_options: {fork_epoch: 2}\n"
            "  - {dataset: [tiny_imagenet, cifar10], architecture: narrow, recipe: {augmentation: {hue: 0.3}, epochs: 60}}\n",
            datasets="[cifar10, tiny_imagenet]",
            architectures="[resnet20, resnet20: {width: 1, label: narrow}]",
            methods="[deep, constrained, constrained: {fork_epoch: 9, label: late}, distilled: {grid: {fork_epoch: [7]}}]",
        ),
    )
    seen = {
        (pair.dataset.label, pair.architecture.label): (
            pair.recipe.epochs,
            pair.recipe.batch_size,
            pair.recipe.augmentation.hue,
            pair.recipe.augmentation.contrast,
            [method.plugin.options.fork_epoch for method in pair.methods[1:]],
        )
        for pair in benchmark.pairs
    }
    assert seen == {
        ("cifar10", "resnet20"): (50, 64, 0.2, 0, [2, 9, 7]),
        ("cifar10", "narrow"): (60, 64, 0.3, 0, [2, 9, 7]),
        ("tiny_imagenet", "resnet20"): (50, 64, 0.2, 0, [1, 9, 7]),
        ("tiny_imagenet", "narrow"): (60, 64, 0.3, 0, [1, 9, 7]),
    }


def test_filter_by_name_and_by_label(tmp_path: Path) -> None:
    """A filter's word means the entry of that label; if there is none, every entry of that name."""
    more = "settings:\n  - {architecture: resnet20, recipe: {epochs: 7}}\n"
    narrow, wide = "resnet20: {width: 1, label: narrow}", "resnet20: {width: 8, label: wide}"
    plain = load(tmp_path, text(more, architectures=f"[resnet20, {narrow}]"))
    assert [pair.recipe.epochs for pair in plain.pairs] == [7, 110]
    labelled = load(tmp_path, text(more, architectures=f"[{wide}, {narrow}]"))
    assert [pair.recipe.epochs for pair in labelled.pairs] == [7, 7]


def test_required_option_from_settings(tmp_path: Path) -> None:
    """An option without a default may come from settings alone."""
    benchmark = load(tmp_path, text("settings: [{method_options: {fork_epoch: 3}}]", methods="[distilled]"))
    assert benchmark.pairs[0].methods[0].plugin.options.fork_epoch == 3


def test_shared_objects(tmp_path: Path) -> None:
    """Pairs under the same settings share recipe and methods; seeds share everything."""
    benchmark = load(
        tmp_path,
        text(
            "settings: [{dataset: cifar10, recipe: {epochs: 9}}]",
            seeds="[0, 1]",
            datasets="[cifar10, tiny_imagenet]",
            architectures="[resnet20, timm/vit_base]",
        ),
    )
    cells = list(benchmark.cells())
    assert len({id(cell.recipe) for cell in cells}) == 2
    assert len({id(cell.method.plugin) for cell in cells}) == 1


def test_overrides(tmp_path: Path) -> None:
    """The command line's changes count as if the file said so."""
    benchmark = load(
        tmp_path,
        text(),
        "recipe.epochs=3",
        "seeds=[4]",
        "settings=[{dataset: cifar10, recipe: {batch_size: 8}}]",
        "methods.0={constrained: {fork_epoch: 2}}",
    )
    [cell] = benchmark.cells()
    assert (cell.recipe.epochs, cell.recipe.batch_size, cell.seed, cell.method.label) == (3, 8, 4, "constrained")


def test_anchors(tmp_path: Path) -> None:
    """Keys that begin with x- are a place for anchors."""
    more = "x-fast: &fast {epochs: 4}\nrecipe: {<<: *fast, batch_size: 9}"
    assert load(tmp_path, text(more)).pairs[0].recipe == Recipe(epochs=4, batch_size=9)


def test_resolved(tmp_path: Path) -> None:
    """The resolved benchmark is JSON with every default filled in, and says nothing of where the file lies."""
    resolved = load(
        tmp_path, text("recipe: {betas: [0.8, 0.9]}", architectures="[timm/vit_base]", methods="[constrained]")
    ).resolved()
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    assert list(resolved) == [
        "name", "description", "seeds", "members", "datasets", "architectures", "metrics", "objective", "pairs"
    ]  # fmt: skip
    assert resolved["architectures"] == [
        {"label": "timm/vit_base", "name": "timm/<name>", "version": 1, "options": {"pretrained": False}, "variant": "vit_base"}
    ]
    [pair] = resolved["pairs"]
    assert pair["recipe"]["betas"] == [0.8, 0.9]
    assert pair["methods"] == [
        {"label": "constrained", "name": "constrained", "version": 1, "options": {"fork_epoch": None, "inherit": True}}
    ]
    assert str(tmp_path) not in json.dumps(resolved)


def test_ten_thousand_cells(tmp_path: Path) -> None:
    """Ten thousand cells take well below a second, reading and checking included."""
    labels = range(10)
    content = text(
        "settings:\n" + "".join(f"  - {{dataset: d{i}, recipe: {{epochs: {i + 20}}}}}\n" for i in labels),
        seeds=str(list(range(10))),
        datasets=f"[{', '.join(f'cifar10: {{label: d{i}}}' for i in labels)}]",
        architectures=f"[{', '.join(f'resnet20: {{label: a{i}}}' for i in labels)}]",
        methods=f"[{', '.join(f'constrained: {{fork_epoch: {i}, label: m{i}}}' for i in labels)}]",
    )
    begun = time.perf_counter()
    assert len(list(load(tmp_path, content).cells())) == 10_000
    assert time.perf_counter() - begun < 1


def test_no_torch() -> None:
    """Checking a file imports no torch."""
    code = "import sys, harness.benchmark, harness.source; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# What is wrong, word by word

KNOWN_AT_TOP = "architectures, datasets, description, members, methods, metrics, name, objective, recipe, seeds, settings"
KNOWN_IN_RECIPE = (
    "augmentation, batch_size, betas, clip_norm, epochs, eps, label_smoothing, learning_rate, momentum, nesterov, "
    "normalisation, optimizer, precision, warmup, weight_decay"
)
SEEDS = "a list of at least 1 (each an integer of at least 0), such as [0, 1, 2]"
ENTRY = "not an entry; a name, or 'name: {option: value}' with the options indented below the name"


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("seed: [0]", f"b.yaml:5:1: unknown key 'seed'; did you mean 'seeds'? known: {KNOWN_AT_TOP}"),
        (f"{'k' * 1000}: 1", f"b.yaml:5:1: unknown key '{'k' * 40}'… (1000 characters); known: {KNOWN_AT_TOP}"),
        ("name: Paper", "b.yaml:5:7: name: 'Paper' is not allowed; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        (f"name: {'x' * 101}", f"b.yaml:5:7: name: '{'x' * 40}'… (101 characters) is too long; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        ("name: 3", "b.yaml:5:7: name: 3 is not a text; a text of at most 100 characters matching ^[a-z0-9][a-z0-9._-]*$, such as 'quickstart'"),
        ("description: [a]", "b.yaml:5:14: description: ['a'] is not a text"),
        ("members: 0", "b.yaml:5:10: members: 0 is out of range; an integer of at least 1 and at most 10000"),
        ("members: '5'", "b.yaml:5:10: members: '5' is not an integer; an integer of at least 1 and at most 10000"),
        ("members: true", "b.yaml:5:10: members: true is not an integer; an integer of at least 1 and at most 10000"),
        ("members: 5.0", "b.yaml:5:10: members: 5.0 is not an integer; an integer of at least 1 and at most 10000"),
        ("metrics: []", "b.yaml:5:10: metrics: [] is too short; a list of at least 1, such as ['ensemble_accuracy']"),
        ("metrics: ensemble_accuracy", "b.yaml:5:10: metrics: 'ensemble_accuracy' is not a list; a list of at least 1, such as ['ensemble_accuracy']"),
        ("metrics: [ensemble_acuracy]", "b.yaml:5:11: unknown metric 'ensemble_acuracy'; did you mean 'ensemble_accuracy'? known: ensemble_accuracy, joint_connectivity, mean_member_accuracy"),
        ("metrics:\n- joint_connectivity\n- joint_connectivity: {draws: 9}", "b.yaml:7:3: metric 'joint_connectivity' is taken by the entry at b.yaml:6:3; list it once"),
        ("metrics: [joint_connectivity: {label: x}]", "b.yaml:5:32: unknown key 'label'; known: draws"),
        ("metrics: [joint_connectivity: {draws: 0}]", "b.yaml:5:39: joint_connectivity.draws: 0 is out of range; an integer of at least 1"),
        ("members: 1\nmetrics: [ensemble_accuracy, joint_connectivity]", "b.yaml:6:30: joint_connectivity: needs at least 2 members, not 1"),
        ("objective: cross_entropi", "b.yaml:5:12: unknown objective 'cross_entropi'; did you mean 'cross_entropy'? known: cross_entropy, distillation, smoothed"),
        ("objective: [cross_entropy]", f"b.yaml:5:12: ['cross_entropy'] is {ENTRY}"),
        ("objective: {smoothed: {amount: x}}", "b.yaml:5:32: smoothed.amount: 'x' is not a number"),
        ("objective: distillation", "b.yaml:5:12: distillation needs a teacher, which only a method gives; one without a teacher"),
        ("recipe: [epochs]", "b.yaml:5:9: recipe: ['epochs'] is not a mapping"),
        ("recipe: {epoch: 3}", f"b.yaml:5:10: unknown key 'epoch'; did you mean 'epochs'? known: {KNOWN_IN_RECIPE}"),
        ("recipe: {learning_rate: fast}", "b.yaml:5:25: recipe.learning_rate: 'fast' is not a number; a number above 0"),
        ("recipe: {learning_rate: 0}", "b.yaml:5:25: recipe.learning_rate: 0 is out of range; a number above 0"),
        ("recipe: {learning_rate: 1.0e999}", "b.yaml:5:25: .inf is not a finite number; every number in a benchmark file is finite"),
        ("recipe: {epochs: .nan}", "b.yaml:5:18: .nan is not a finite number; every number in a benchmark file is finite"),
        ("recipe: {warmup: 1}", "b.yaml:5:18: recipe.warmup: 1 is out of range; a number of at least 0 and below 1"),
        ("recipe: {epochs: null}", "b.yaml:5:18: recipe.epochs: null is not an integer; an integer of at least 1 and at most 100000"),
        ("recipe: {epochs: 1" + "0" * 5000 + "}", f"b.yaml:5:18: integer '1{'0' * 39}'… (5001 characters) is too large; at most 9223372036854775807 in size"),
        ("recipe: {clip_norm: no}", "b.yaml:5:21: recipe.clip_norm: 'no' is not a number; a number above 0 or null"),
        ("recipe: {nesterov: maybe}", "b.yaml:5:20: recipe.nesterov: 'maybe' is not true or false"),
        ("recipe: {optimizer: sdg}", "b.yaml:5:21: recipe.optimizer: unknown value 'sdg'; did you mean 'sgd'? known: adam, adamw, sgd"),
        ("recipe: {precision: 16}", "b.yaml:5:21: recipe.precision: 16 is not allowed; 'auto' or 'fp32' or 'bf16'"),
        ("recipe: {betas: 0.9}", "b.yaml:5:17: recipe.betas: 0.9 is not a list; a list of 2: a number of at least 0 and below 1, a number of at least 0 and below 1"),
        ("recipe: {betas: [0.9]}", "b.yaml:5:17: recipe.betas: [0.9] is too short; a list of 2: a number of at least 0 and below 1, a number of at least 0 and below 1"),
        ("recipe: {betas: [0.9, 1, 2]}", "b.yaml:5:17: recipe.betas: [0.9, 1, 2] is too long; a list of 2: a number of at least 0 and below 1, a number of at least 0 and below 1"),
        ("recipe: {betas: [0.9, x]}", "b.yaml:5:23: recipe.betas[1]: 'x' is not a number; a number of at least 0 and below 1"),
        ("recipe: {augmentation: no}", "b.yaml:5:24: recipe.augmentation: 'no' is not a mapping; a mapping of crop_padding, horizontal_flip, brightness, contrast, saturation, hue"),
        ("recipe: {augmentation: {hue: 1}}", "b.yaml:5:30: recipe.augmentation.hue: 1 is out of range; a number of at least 0 and at most 0.5"),
        ("recipe: {augmentation: {hues: 0}}", "b.yaml:5:25: unknown key 'hues'; did you mean 'hue'? known: brightness, contrast, crop_padding, horizontal_flip, hue, saturation"),
        ("recipe: {epochs: 3, epochs: 4}", "b.yaml:5:21: key 'epochs' appears twice in one mapping, first in line 5; keep one of them"),
        ("settings: {dataset: cifar10}", "b.yaml:5:11: settings: a mapping of 1 key is not a list; a list (each a mapping of dataset, architecture, methods, recipe, method_options)"),
        ("settings: [cifar10]", "b.yaml:5:12: settings[0]: 'cifar10' is not a mapping; a mapping of dataset, architecture, methods, recipe, method_options"),
        ("settings: [{dataset: cifar10}]", "b.yaml:5:12: this block of settings sets nothing; give it a recipe, method_options or methods"),
        ("settings: [{dataset: cifar, recipe: {epochs: 3}}]", "b.yaml:5:22: no dataset of this file is called 'cifar'; did you mean 'cifar10'? known: cifar10"),
        ("settings: [{architecture: [resnet20, vit], recipe: {epochs: 3}}]", "b.yaml:5:38: no architecture of this file is called 'vit'; known: resnet20"),
        ("settings: [{dataset: [], recipe: {epochs: 3}}]", "b.yaml:5:22: settings[0].dataset: [] is not allowed; a text or a list of at least 1 (each a text) or null"),
        ("settings: [{recipe: {epochs: 3}, seeds: [0]}]", "b.yaml:5:34: 'seeds' cannot differ between settings; give it once, at the top"),
        ("settings: [{recipe: {epochs: 3}, members: 2}]", "b.yaml:5:34: 'members' cannot differ between settings; give it once, at the top"),
        ("settings: [{recipe: {epochs: 3}, data: x}]", "b.yaml:5:34: unknown key 'data'; did you mean 'dataset'? known: architecture, dataset, method_options, methods, recipe"),
        ("settings: [{recipe: {epochs: x}}, {recipe: {epochs: 3}}]", "b.yaml:5:30: recipe.epochs: 'x' is not an integer; an integer of at least 1 and at most 100000"),
        ("settings: [{method_options: {fork: 3}}]", "b.yaml:5:30: no method of this file has an option 'fork'; known: none"),
        ("settings: [{method_options: 3}]", "b.yaml:5:29: settings[0].method_options: 3 is not a mapping; a mapping or null"),
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_wrong_beside_the_lists(tmp_path: Path, more: str, line: str) -> None:
    """One mistake is one line: where, what, what is allowed."""
    assert problems(tmp_path, text(more)) == [line]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"seeds": "3"}, [f"b.yaml:1:8: seeds: 3 is not a list; {SEEDS}"]),
        ({"seeds": "[]"}, [f"b.yaml:1:8: seeds: [] is too short; {SEEDS}"]),
        ({"seeds": "[0, -1]"}, ["b.yaml:1:12: seeds[1]: -1 is out of range; an integer of at least 0"]),
        ({"seeds": "[0, '1']"}, ["b.yaml:1:12: seeds[1]: '1' is not an integer; an integer of at least 0"]),
        ({"seeds": "[0, 1, 0]"}, ["b.yaml:1:8: seeds: 0 is listed 2 times; seeds are all different"]),
        ({"seeds": ""}, [f"b.yaml:1:7: seeds: null is not a list; {SEEDS}"]),
        ({"datasets": "cifar10"}, ["b.yaml:2:11: datasets: 'cifar10' is not a list; a list of at least 1, such as ['cifar10']"]),
        ({"datasets": "[cifar]"}, ["b.yaml:2:12: unknown dataset 'cifar'; did you mean 'cifar10'? known: cifar10, tiny_imagenet"]),
        ({"datasets": "[10]"}, [f"b.yaml:2:12: 10 is {ENTRY}"]),
        ({"datasets": "[{cifar10: , side: 3}]"}, [f"b.yaml:2:12: a mapping of 2 keys is {ENTRY}"]),
        ({"datasets": "[tiny_imagenet: 3]"}, ["b.yaml:2:27: tiny_imagenet: 3 is not a mapping; options, such as {key: value}"]),
        ({"datasets": "[tiny_imagenet: {size: 3}]"}, ["b.yaml:2:28: unknown key 'size'; did you mean 'side'? known: label, side"]),
        ({"datasets": "[tiny_imagenet: {side: 3}]"}, ["b.yaml:2:34: tiny_imagenet.side: 3 is out of range; an integer of at least 8"]),
        ({"datasets": "[cifar10: {grid: {a: [1]}}]"}, ["b.yaml:2:22: unknown key 'grid'; known: label"]),
        ({"datasets": '["a\\nb"]'}, [r"b.yaml:2:12: unknown dataset 'a\nb'; known: cifar10, tiny_imagenet"]),
        ({"datasets": f"[{'x' * 3000}]"}, [f"b.yaml:2:12: unknown dataset '{'x' * 40}'… (3000 characters); known: cifar10, tiny_imagenet"]),
        ({"architectures": "[timm/resnett18]"}, ["b.yaml:3:17: unknown architecture 'timm/resnett18'; did you mean 'timm/resnet18'? known: timm/resnet18, timm/vit_base"]),
        ({"architectures": "[timm/resnet17: {pretrained: x}]"}, ["b.yaml:3:17: unknown architecture 'timm/resnet17'; did you mean 'timm/resnet18'? known: timm/resnet18, timm/vit_base"]),
        ({"architectures": "[timm/<name>]"}, ["b.yaml:3:17: 'timm/<name>' names a family; put a member's name for <name>"]),
        ({"architectures": "[resnet20, resnet20: {width: 1}]"}, ["b.yaml:3:27: label 'resnet20' is taken by the entry at b.yaml:3:17; give this one a 'label' of its own"]),
        ({"architectures": "[resnet20: {label: 'a|b'}]"}, ["b.yaml:3:35: label 'a|b' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": "[resnet20: {label: ''}]"}, ["b.yaml:3:35: label '' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": "[resnet20: {label: 20}]"}, ["b.yaml:3:35: label 20 cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"architectures": '[resnet20: {label: "a\\tb"}]'}, [r"b.yaml:3:35: label 'a\tb' cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"methods": "[deep, dep]"}, ["b.yaml:4:17: unknown method 'dep'; did you mean 'deep'? known: constrained, deep, distilled, refusing"]),
        ({"methods": "[dep, dep]"}, [f"b.yaml:4:{column}: unknown method 'dep'; did you mean 'deep'? known: constrained, deep, distilled, refusing" for column in (11, 16)]),
        ({"methods": "[constrained: {fork_epohc: 3}]"}, ["b.yaml:4:25: unknown key 'fork_epohc'; did you mean 'fork_epoch'? known: fork_epoch, grid, inherit, label"]),
        ({"methods": "[constrained: {fork_epoch: '3'}]"}, ["b.yaml:4:37: constrained.fork_epoch: '3' is not an integer; an integer of at least 0 or null"]),
        ({"methods": "[constrained: {fork_epoch: 110}]"}, ["b.yaml:4:11: constrained on cifar10 × resnet20: fork_epoch is 110; at most epochs - 1 = 109"]),
        ({"methods": "[constrained: {grid: {fork_epoch: [1, 200, 300], inherit: [no]}}]"}, [f"b.yaml:4:11: constrained(fork_epoch={t},inherit=no) on cifar10 × resnet20: fork_epoch is {t}; at most epochs - 1 = 109" for t in (200, 300)]),
        ({"methods": "[constrained: {grid: {fork_epoch: [1, x]}}]"}, ["b.yaml:4:48: constrained.fork_epoch: 'x' is not an integer; an integer of at least 0 or null"]),
        ({"methods": "[constrained: {grid: [1]}]"}, ["b.yaml:4:31: grid: [1] is not a grid; options with lists of values, such as {beta: [0.2, 0.5]}"]),
        ({"methods": "[constrained: {grid: {}}]"}, ["b.yaml:4:31: grid: a mapping of 0 keys is not a grid; options with lists of values, such as {beta: [0.2, 0.5]}"]),
        ({"methods": "[distilled: {grid: {fork_epoch: 3}}]"}, ["b.yaml:4:42: grid.fork_epoch: 3 is not a list of values; such as [1, 2]"]),
        ({"methods": "[distilled: {grid: {fork_epoch: []}}]"}, ["b.yaml:4:42: grid.fork_epoch: [] is not a list of values; such as [1, 2]"]),
        ({"methods": "[distilled: {grid: {fork_epoch: [1, 1]}}]"}, ["b.yaml:4:42: grid.fork_epoch: [1, 1] lists a value twice; list each once"]),
        ({"methods": "[distilled: {fork_epoch: 1, grid: {fork_epoch: [1]}}]"}, ["b.yaml:4:45: 'fork_epoch' is given beside the grid too; give it once"]),
        ({"methods": "[distilled: {grid: {fork: [1]}}]"}, ["b.yaml:4:30: unknown key 'fork'; did you mean 'fork_epoch'? known: beta, fork_epoch, layers, teacher"]),
        ({"methods": f"[constrained: {{grid: {{fork_epoch: {list(range(99))}, inherit: {list(range(99))}}}}}]"}, ["b.yaml:4:31: grid: makes 9801 methods; at most 1000"]),
        ({"methods": "[distilled]"}, ["b.yaml:4:11: distilled on cifar10 × resnet20: fork_epoch is missing; an integer of at least 0"]),
        ({"methods": "[distilled: {fork_epoch: 1, teacher: next}]"}, ["b.yaml:4:11: distilled on cifar10 × resnet20: teacher 'next' learns layer by layer; list the layers"]),
        ({"methods": "[distilled: {fork_epoch: 1, teacher: nxt}]"}, ["b.yaml:4:47: distilled.teacher: unknown value 'nxt'; did you mean 'next'? known: next, own"]),
        ({"methods": "[distilled: {fork_epoch: 1, layers: [1, 2.5]}]"}, ["b.yaml:4:50: distilled.layers[1]: 2.5 is not an integer"]),
        ({"methods": "[refusing]"}, ["b.yaml:4:11: refusing on cifar10 × resnet20: the solver is not installed; install it"]),
        ({"methods": f"[deep: {{label: {'m' * 101}}}]"}, [f"b.yaml:4:25: label '{'m' * 40}'… (101 characters) cannot stand in a table; 1 to 100 printable characters without '|'"]),
        ({"seeds": str(list(range(9_000))).replace(" ", ""), "methods": "[constrained: {grid: {fork_epoch: [1, 2, 3, 4], inherit: [yes, no, on]}}]"}, ["b.yaml:1:1: makes 108000 cells; at most 100000"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_wrong_in_the_lists(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """One mistake is one line at the entry, the option or the key concerned."""
    assert problems(tmp_path, text(**lists)) == lines


def test_nothing_given(tmp_path: Path) -> None:
    """What must be there is named, all of it."""
    assert problems(tmp_path, "name: x") == [
        "b.yaml:1:1: architectures is missing; a list of at least 1, such as ['resnet20']",
        "b.yaml:1:1: datasets is missing; a list of at least 1, such as ['cifar10']",
        "b.yaml:1:1: methods is missing; a list of at least 1, such as ['deep']",
        f"b.yaml:1:1: seeds is missing; {SEEDS}",
    ]


def test_everything_at_once(tmp_path: Path) -> None:
    """All problems of a file come in the file's order, each once, then those of the command line."""
    content = text(
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


def test_check_where_it_fails(tmp_path: Path) -> None:
    """A builder's refusal names the pairs concerned, the first two and how many more."""
    content = text(
        "recipe: {epochs: 30}\nsettings: [{dataset: tiny_imagenet, recipe: {epochs: 10}}]",
        datasets="[cifar10, tiny_imagenet]",
        architectures="[resnet20, timm/resnet18, timm/vit_base]",
        methods="[constrained: {fork_epoch: 20}]",
    )
    assert problems(tmp_path, content) == [
        "b.yaml:4:11: constrained on tiny_imagenet × resnet20, tiny_imagenet × timm/resnet18 and 1 more: "
        "fork_epoch is 20; at most epochs - 1 = 9"
    ]


def test_check_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is asked once for each recipe, not for each pair or seed."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(Deep, "check", lambda self, recipe, members: asked.append((recipe.epochs, members)))
    load(
        tmp_path,
        text(
            "members: 3\nsettings: [{dataset: cifar10, recipe: {epochs: 9}}]",
            seeds="[0, 1]",
            datasets="[cifar10, tiny_imagenet]",
            architectures="[resnet20, timm/vit_base]",
        ),
    )
    assert asked == [(9, 3), (110, 3)]


def test_recipe_wrong_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a whole recipe can be wrong about is said for the pairs where it holds, not for parts that are never alone."""

    class Picky(Recipe):
        @model_validator(mode="after")
        def _sgd(self) -> Picky:
            if self.optimizer != "sgd" and self.momentum:
                raise ValueError("momentum is SGD's; give momentum: 0")
            return self

    monkeypatch.setattr("harness.benchmark.resolving.Recipe", Picky)
    content = text(
        "recipe: {optimizer: adam}\nsettings:\n  - {dataset: cifar10, recipe: {momentum: 0}}\n",
        datasets="[cifar10, tiny_imagenet]",
    )
    assert problems(tmp_path, content) == [
        "b.yaml:5:9: recipe on tiny_imagenet × resnet20: momentum is SGD's; give momentum: 0"
    ]


# Options of other shapes


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Stage(harness.Options):
    """A part of options."""

    depth: int = Field(1, ge=1)
    sizes: tuple[int, int] = (1, 1)


class Shapes(harness.Options):
    """One field of each shape that a plugin may want."""

    auto: int | Literal["auto"] = "auto"
    switch: bool | None = None
    word: bool | str = True
    colour: Colour = Colour.RED
    stages: tuple[Stage, ...] = ()
    either: Stage | tuple[int, ...] | None = None
    chosen: frozenset[str] = frozenset()
    rates: dict[str, float] = {}
    pairs: list[tuple[int, float]] = []
    anything: Any = None
    share: float = Field(0.5, gt=0, le=1)
    heads: int = Field(4, ge=1, multiple_of=4)
    most: int = Field(4, le=9)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"auto": 3}, {"auto": 3}),
        ({"switch": "no", "word": "no"}, {"switch": False, "word": "no"}),
        ({"colour": "blue"}, {"colour": Colour.BLUE}),
        ({"stages": [{"sizes": [2, 3]}, {}]}, {"stages": (Stage(sizes=(2, 3)), Stage())}),
        ({"either": [1]}, {"either": (1,)}),
        ({"either": {"sizes": [1, 2]}}, {"either": Stage(sizes=(1, 2))}),
        ({"chosen": ["a", "b"]}, {"chosen": frozenset("ab")}),
        ({"rates": {"a": 1}}, {"rates": {"a": 1.0}}),
        ({"pairs": [[1, 2]]}, {"pairs": [(1, 2.0)]}),
        ({"anything": {"a": [1]}}, {"anything": {"a": [1]}}),
    ],
    ids=str,
)
def test_shapes(given: dict[str, Any], fields: dict[str, Any]) -> None:
    """YAML's values take the shapes that strict options want."""
    options, faults = checked(Shapes, given)
    assert (options, faults) == (Shapes(**fields), [])


@pytest.mark.parametrize(
    ("given", "place", "fault"),
    [
        ({"auto": "x"}, ("auto",), "'x' is not allowed; an integer or 'auto'"),
        ({"auto": "3"}, ("auto",), "'3' is not allowed; an integer or 'auto'"),
        ({"switch": "x"}, ("switch",), "'x' is not true or false; true or false or null"),
        ({"colour": "rd"}, ("colour",), "unknown value 'rd'; did you mean 'red'? known: blue, red"),
        ({"colour": 3}, ("colour",), "3 is not allowed; 'red' or 'blue'"),
        ({"stages": [{"depth": 0}]}, ("stages", 0, "depth"), "0 is out of range; an integer of at least 1"),
        ({"stages": [{"sizes": [1]}]}, ("stages", 0, "sizes"), "[1] is too short; a list of 2: an integer, an integer"),
        ({"stages": [{"dept": 1}]}, ("stages", 0, "dept"), "unknown key 'dept'; did you mean 'depth'? known: depth, sizes"),
        ({"either": "x"}, ("either",), "'x' is not allowed; a mapping of depth, sizes or a list (each an integer) or null"),
        ({"chosen": [{}]}, ("chosen",), "[a mapping of 0 keys] is not a list; a list (each a text)"),
        ({"rates": {"a": "x"}}, ("rates", "a"), "'x' is not a number"),
        ({"pairs": [[1]]}, ("pairs", 0), "[1] is too short; a list of 2: an integer, a number"),
        ({"share": 0}, ("share",), "0 is out of range; a number above 0 and at most 1"),
        ({"heads": 6}, ("heads",), "6 is not allowed; an integer of at least 1 and a multiple of 4"),
        ({"most": 10}, ("most",), "10 is out of range; an integer of at most 9"),
    ],
    ids=str,
)
def test_shapes_refused(given: dict[str, Any], place: tuple, fault: str) -> None:
    """Nothing is converted silently, and one line says what the shape would be."""
    options, [found] = checked(Shapes, given)
    assert options is None
    assert (found.place, found.text) == (place, fault)


def test_field_that_json_schema_cannot_express() -> None:
    """Options with an exotic field still say which keys they know."""

    class Exotic(harness.Options):
        model_config = {"arbitrary_types_allowed": True}
        path: re.Match | None = None
        depth: int = 1

    _, faults = checked(Exotic, {"depht": 2, "path": 1, "depth": "x"}, ("label",))
    assert [fault.text for fault in faults] == [
        "unknown key 'depht'; did you mean 'depth'? known: depth, label, path",
        "1 is not allowed",
        "'x' is not an integer",
    ]


# Hostile files


@pytest.mark.parametrize(
    ("content", "said"),
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
def test_hostile(tmp_path: Path, content: bytes, said: str) -> None:
    """A hostile file is refused in one line."""
    [line] = problems(tmp_path, content)
    assert said in line
    assert len(line) < 400


def test_many_of_everything(tmp_path: Path) -> None:
    """A file full of mistakes, as large as allowed, is checked in seconds."""
    rows = "".join(f"  - {{dataset: d{i}, recipe: {{epochs: x, e{i}: 1}}, method_options: {{o{i}: 1}}}}\n" for i in range(300))
    content = text(
        f"settings:\n{rows}", datasets=str([f"d{i}" for i in range(1000)]), methods=str([f"m{i}" for i in range(100)])
    )
    begun = time.perf_counter()
    assert len(problems(tmp_path, content)) > 1500
    assert time.perf_counter() - begun < 30


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
def test_anything(tmp_path: Path, content: str | bytes) -> None:
    """Whatever a file holds, it is a benchmark or a `BenchmarkError` with distinct lines that name a place."""
    try:
        load(tmp_path, content)
    except BenchmarkError as error:
        found = error.problems
    else:
        found = ()
    assert len(set(found)) == len(found)
    assert all(line.startswith(str(tmp_path / "b.yaml")) and len(line.splitlines()) == 1 for line in found)


# The editor's schema

VALID = [
    text(),
    text("name: a\ndescription: b\nmembers: 3\nmetrics: [joint_connectivity: {draws: 3}]\nobjective: smoothed\nx-any: {a: 1}"),
    text(
        "recipe: {epochs: 3, betas: [0.1, 0.2], clip_norm: null, augmentation: {hue: 0.1}}\nobjective: {smoothed: {amount: 1}}"
    ),
    text("settings:\n- {dataset: cifar10, architecture: [resnet20], recipe: {epochs: 3}, method_options: {}}"),
    text(datasets="[cifar10: {label: a}, cifar10: ]", architectures="[timm/vit_base, timm/resnet18: {pretrained: true}]"),
    text(
        "settings: [{method_options: {fork_epoch: 3}}]",
        methods="[distilled, constrained: {label: x, grid: {fork_epoch: [1, 2]}}]",
    ),
    text("recipe:\nsettings:\nmetrics:\nname:\n"),
]
INVALID = [
    text("seed: [0]"),
    text("recipe: {epoch: 3}"),
    text("recipe: {learning_rate: 0}"),
    text("recipe: {augmentation: {hues: 1}}"),
    text("settings: [{recipes: {}}]"),
    text("settings: [{recipe: {epoch: 3}}]"),
    text("settings: [{method_options: {fork: 3}}]"),
    text("metrics: [ensemble_acuracy]"),
    text("metrics: [joint_connectivity: {draw: 3}]"),
    text("objective: {smoothed: {amounts: 1}}"),
    text(seeds="3"),
    text(datasets="[cifar]"),
    text(datasets="[cifar10: {labels: a}]"),
    text(architectures="[resnet20: {width: x}]"),
    text(architectures="[timm/resnet18: {pretrain: true}]"),
    text(methods="[{deep: , constrained: }]"),
    text(methods="[constrained: {grid: {fork: [1]}}]"),
    text(methods="[constrained: {grid: {fork_epoch: 1}}]"),
    "seeds: [0]\n",
]


def schema_errors(content: str) -> list[Any]:
    return list(jsonschema.Draft202012Validator(json_schema(CATALOGUE)).iter_errors(yaml.safe_load(content)))


@pytest.mark.parametrize("content", VALID)
def test_schema_takes_what_loads(tmp_path: Path, content: str) -> None:
    """What loads is valid for an editor."""
    load(tmp_path, content)
    assert schema_errors(content) == []


@pytest.mark.parametrize("content", INVALID)
def test_schema_refuses_what_does_not_load(tmp_path: Path, content: str) -> None:
    """A typo is underlined in an editor as well."""
    assert problems(tmp_path, content)
    assert schema_errors(content)


def test_schema_itself() -> None:
    """The schema is valid JSON schema 2020-12 and describes every key."""
    schema = json_schema(CATALOGUE)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert all(key["description"] for key in schema["properties"].values())


# What is installed


def test_schema_of_what_is_installed() -> None:
    """The schema of the installed plugins is valid and knows the settled names."""
    schema = json_schema(load_catalogue())
    jsonschema.Draft202012Validator.check_schema(schema)
    methods = {arm.get("const") for arm in schema["properties"]["methods"]["items"]["anyOf"]}
    assert {"deep", "constrained", "distilled"} <= methods


def test_example_in_the_reference(tmp_path: Path) -> None:
    """The complete example of docs/benchmark-file.md loads with the installed plugins, and its editor's schema takes it."""
    pages = (ROOT / "docs" / "benchmark-file.md").read_text(encoding="utf-8")
    example = max(re.findall(r"```yaml\n(.*?)```", pages, re.DOTALL), key=len)
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
    benchmark = load_benchmark(tmp_path / "example.yaml", load_catalogue())
    assert len(list(benchmark.cells())) > 10
    validator = jsonschema.Draft202012Validator(json_schema(load_catalogue()))
    assert list(validator.iter_errors(yaml.safe_load(example))) == []


def test_settings_say_which_methods_run_where(tmp_path: Path) -> None:
    """A pair under a block with `methods` has those alone, in the file's order; the last such block holds."""
    content = text(
        "settings:\n- {architecture: vit, methods: [constrained]}\n",
        architectures="[resnet20, {resnet20: {label: vit}}]",
        methods="[deep, {constrained: {fork_epoch: 1}}]",
    )
    cells = [(cell.architecture.label, cell.method.label) for cell in load(tmp_path, content).cells()]
    assert cells == [("resnet20", "deep"), ("resnet20", "constrained"), ("vit", "constrained")]


def test_unknown_method_in_settings(tmp_path: Path) -> None:
    """A word that means no method of the file is named with the nearest."""
    lines = problems(tmp_path, text("settings: [{methods: deap}]"))
    assert lines == ["b.yaml:5:22: no method of this file is called 'deap'; did you mean 'deep'? known: deep"]
