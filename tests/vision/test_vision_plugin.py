"""The plugin as a whole: registered names, imported libraries, and constants equal to the published ones."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torchvision

import harness_vision
from harness import Architecture, Dataset
from harness_vision.cifar import Cifar10, Cifar100

HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "PIL", "safetensors", "huggingface_hub"}


def registered(hook: str) -> list[Any]:
    found: list[Any] = []
    getattr(harness_vision, hook)(register=found.append)
    return found


def test_registered_names() -> None:
    """They are the names in benchmark files."""
    architectures = [cls.name for cls in registered("register_architectures")]
    datasets = [cls.name for cls in registered("register_datasets")]
    assert architectures == ["resnet20", "vit", "timm/<name>"]
    assert datasets == ["cifar10", "cifar100", "tiny_imagenet", "digits"]


LIST_IMPORTS = """
import json
import sys

sys.path[:] = json.loads(sys.argv[1])
import harness

before = set(sys.modules)
import harness_vision as v

architectures = [v.ResNet20(), v.ViT(), v.TimmBackbone()]
datasets = [v.Cifar10(), v.Cifar100(), v.TinyImageNet(), v.Digits()]
for plugin in architectures + datasets:
    plugin.identity, plugin.options, type(plugin).Options.model_json_schema()
for dataset in datasets:
    dataset.shape, dataset.num_classes, dataset.train_size, dataset.fingerprint, dataset.normalization
print(json.dumps([module.split(".")[0] for module in set(sys.modules) - before]))
"""


def test_declarations_import_no_heavy_library() -> None:
    """Importing the plugin, and all that a plan asks of it, imports none of the libraries of `build` and `load`."""
    command = [sys.executable, "-c", LIST_IMPORTS, json.dumps(sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "harness_vision" in loaded
    assert not loaded & (HEAVY | {"numpy"})


@pytest.mark.parametrize("cls", [*registered("register_architectures"), *registered("register_datasets")])
def test_every_option_is_described(cls: type[Architecture] | type[Dataset]) -> None:
    """`harness list` has a description of each option."""
    for name, field in cls.Options.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Cifar10, torchvision.datasets.CIFAR10), (Cifar100, torchvision.datasets.CIFAR100)]
)
def test_cifar_constants_are_those_of_torchvision(ours: Any, theirs: Any) -> None:
    """Folder, file names and md5 sums, and the URL and md5 of the archive are equal."""
    assert (ours.archive.filename, ours.archive.url, ours.archive.md5, ours.archive.folder) == (
        theirs.filename,
        theirs.url,
        theirs.tgz_md5,
        theirs.base_folder,
    )
    assert list(ours.train_files.items()) == [tuple(row) for row in theirs.train_list]
    assert list(ours.test_files.items()) == [tuple(row) for row in theirs.test_list]
