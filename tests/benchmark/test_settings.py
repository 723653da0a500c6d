"""Settings: the setups to which a block applies, and its changes."""
# ruff: noqa: E501  each message is one line, as users see it

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.toy_catalogue import file_text, load, problems


def test_settings(tmp_path: Path) -> None:
    """Blocks change the file's recipe key by key and add method options; later blocks win, and entries win over blocks."""
    benchmark = load(
        tmp_path,
        file_text(
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
        for pair in benchmark.setups
    }
    assert seen == {
        ("cifar10", "resnet20"): (50, 64, 0.2, 0, [2, 9, 7]),
        ("cifar10", "narrow"): (60, 64, 0.3, 0, [2, 9, 7]),
        ("tiny_imagenet", "resnet20"): (50, 64, 0.2, 0, [1, 9, 7]),
        ("tiny_imagenet", "narrow"): (60, 64, 0.3, 0, [1, 9, 7]),
    }


def test_filter_by_name_and_by_label(tmp_path: Path) -> None:
    """A name in a filter selects the entry with that label; if there is none, all entries with that registered name."""
    more = "settings:\n  - {architecture: resnet20, recipe: {epochs: 7}}\n"
    narrow, wide = "resnet20: {width: 1, label: narrow}", "resnet20: {width: 8, label: wide}"
    plain = load(tmp_path, file_text(more, architectures=f"[resnet20, {narrow}]"))
    assert [pair.recipe.epochs for pair in plain.setups] == [7, 110]
    labeled = load(tmp_path, file_text(more, architectures=f"[{wide}, {narrow}]"))
    assert [pair.recipe.epochs for pair in labeled.setups] == [7, 7]


def test_required_option_from_settings(tmp_path: Path) -> None:
    """Settings alone may give an option without a default."""
    benchmark = load(tmp_path, file_text("settings: [{method_options: {fork_epoch: 3}}]", methods="[distilled]"))
    assert benchmark.setups[0].methods[0].plugin.options.fork_epoch == 3


def test_methods_in_settings(tmp_path: Path) -> None:
    """A setup has only the methods of the last block with `methods`, in the file's order."""
    content = file_text(
        "settings:\n- {architecture: vit, methods: [constrained]}\n",
        architectures="[resnet20, {resnet20: {label: vit}}]",
        methods="[deep, {constrained: {fork_epoch: 1}}]",
    )
    cells = [(cell.architecture.label, cell.method.label) for cell in load(tmp_path, content).cells()]
    assert cells == [("resnet20", "deep"), ("resnet20", "constrained"), ("vit", "constrained")]


@pytest.mark.parametrize(
    ("more", "line"),
    [
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
def test_wrong_settings(tmp_path: Path, more: str, line: str) -> None:
    """The error is one line at the key or the name."""
    assert problems(tmp_path, file_text(more)) == [line]


def test_unknown_method_in_settings(tmp_path: Path) -> None:
    """The error suggests the nearest name."""
    lines = problems(tmp_path, file_text("settings: [{methods: deap}]"))
    assert lines == ["b.yaml:5:22: no method of this file is called 'deap'; did you mean 'deep'? known: deep"]
