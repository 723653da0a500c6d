"""Recipes and methods of setups, and methods that refuse a recipe."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import model_validator

from benchmark.toy_catalogue import (
    CATALOGUE,
    KNOWN_IN_RECIPE,
    PLUGINS,
    Deep,
    catalogue_of,
    file_text,
    load,
    problems,
    without_folder,
    write,
)
from harness.api.recipe import Recipe
from harness.benchmark import load_benchmark
from harness.benchmark.loader import BenchmarkLoader
from harness.benchmark.yaml_source import read_source
from harness.errors import BenchmarkError


@pytest.mark.parametrize(
    ("more", "line"),
    [
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
    ],
    ids=lambda value: value[:40],
)  # fmt: skip
def test_wrong_recipe(tmp_path: Path, more: str, line: str) -> None:
    """The error is one line at the value."""
    assert problems(tmp_path, file_text(more)) == [line]


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        ({"methods": "[constrained: {fork_epoch: 110}]"}, ["b.yaml:4:11: constrained on cifar10 × resnet20: fork_epoch is 110; at most epochs - 1 = 109"]),
        ({"methods": "[constrained: {grid: {fork_epoch: [1, 200, 300], inherit: [no]}}]"}, [f"b.yaml:4:11: constrained(fork_epoch={t},inherit=no) on cifar10 × resnet20: fork_epoch is {t}; at most epochs - 1 = 109" for t in (200, 300)]),
        ({"methods": "[distilled]"}, ["b.yaml:4:11: distilled on cifar10 × resnet20: fork_epoch is missing; an integer of at least 0"]),
        ({"methods": "[distilled: {fork_epoch: 1, teacher: next}]"}, ["b.yaml:4:11: distilled on cifar10 × resnet20: teacher 'next' learns layer by layer; list the layers"]),
        ({"methods": "[refusing]"}, ["b.yaml:4:11: refusing on cifar10 × resnet20: the solver is not installed; install it"]),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_method_that_refuses_its_setup(tmp_path: Path, lists: dict[str, str], lines: list[str]) -> None:
    """The error is one line at the method's entry, which names the setups."""
    assert problems(tmp_path, file_text(**lists)) == lines


def test_method_that_refuses_many_setups(tmp_path: Path) -> None:
    """The error names the first two setups and counts the others."""
    content = file_text(
        "recipe: {epochs: 30}\nsettings: [{dataset: tiny_imagenet, recipe: {epochs: 10}}]",
        datasets="[cifar10, tiny_imagenet]",
        architectures="[resnet20, timm/resnet18, timm/vit_base]",
        methods="[constrained: {fork_epoch: 20}]",
    )
    assert problems(tmp_path, content) == [
        "b.yaml:4:11: constrained on tiny_imagenet × resnet20, tiny_imagenet × timm/resnet18 and 1 more: "
        "fork_epoch is 20; at most epochs - 1 = 9"
    ]


def test_calls_of_check(tmp_path: Path) -> None:
    """A builder's `check` is called once per recipe, not per setup or seed."""
    calls: list[tuple[int, int]] = []

    class Recorder(Deep):
        name = "recorder"

        def check(self, recipe: Recipe, members: int) -> None:
            calls.append((recipe.epochs, members))

    content = file_text(
        "members: 3\nsettings: [{dataset: cifar10, recipe: {epochs: 9}}]",
        seeds="[0, 1]",
        datasets="[cifar10, tiny_imagenet]",
        architectures="[resnet20, timm/vit_base]",
        methods="[recorder]",
    )
    load_benchmark(write(tmp_path, content), catalogue_of({**PLUGINS, "ensemble_builder": [Recorder]}))
    assert calls == [(9, 3), (110, 3)]


def test_recipe_with_incompatible_values(tmp_path: Path) -> None:
    """The error names the setups with that recipe."""

    class Picky(Recipe):
        @model_validator(mode="after")
        def _sgd(self) -> Picky:
            if self.optimizer != "sgd" and self.momentum:
                raise ValueError("momentum is SGD's; give momentum: 0")
            return self

    content = file_text(
        "recipe: {optimizer: adam}\nsettings:\n  - {dataset: cifar10, recipe: {momentum: 0}}\n",
        datasets="[cifar10, tiny_imagenet]",
    )
    loader = BenchmarkLoader(read_source(write(tmp_path, content)), CATALOGUE, Picky)
    with pytest.raises(BenchmarkError) as caught:
        loader.load()
    assert without_folder(caught.value, tmp_path) == [
        "b.yaml:5:9: recipe on tiny_imagenet × resnet20: momentum is SGD's; give momentum: 0"
    ]


def test_shared_objects(tmp_path: Path) -> None:
    """Setups under the same settings share recipe and methods; seeds share everything."""
    benchmark = load(
        tmp_path,
        file_text(
            "settings: [{dataset: cifar10, recipe: {epochs: 9}}]",
            seeds="[0, 1]",
            datasets="[cifar10, tiny_imagenet]",
            architectures="[resnet20, timm/vit_base]",
        ),
    )
    cells = list(benchmark.cells())
    assert len({id(cell.recipe) for cell in cells}) == 2
    assert len({id(cell.method.plugin) for cell in cells}) == 1
