"""The plugin as a whole: what it registers, what importing it costs, and that its constants are the published ones."""

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
    """The names that benchmark files use."""
    assert [a.name for a in registered("register_architectures")] == ["resnet20", "vit", "timm/<name>"]
    assert [d.name for d in registered("register_datasets")] == ["cifar10", "cifar100", "tiny_imagenet", "digits"]


def test_declarations_are_light() -> None:
    """Importing the plugin, and all that a plan asks of it, loads no library that `build` and `load` need."""
    code = (
        "import sys, json, harness; before = set(sys.modules); import harness_vision as v\n"
        "plugins = [v.ResNet20(), v.ViT(), v.TimmBackbone(), v.Cifar10(), v.Cifar100(), v.TinyImageNet(), v.Digits()]\n"
        "for p in plugins: p.identity, p.options, type(p).Options.model_json_schema()\n"
        "for d in plugins[3:]: d.shape, d.num_classes, d.train_size, d.fingerprint, d.normalization\n"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "harness_vision" in loaded
    assert not loaded & (HEAVY | {"numpy"})


@pytest.mark.parametrize("cls", [*registered("register_architectures"), *registered("register_datasets")])
def test_every_option_is_described(cls: type[Architecture] | type[Dataset]) -> None:
    """`harness list` has something to say about each."""
    assert all(field.description for field in cls.Options.model_fields.values())


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Cifar10, torchvision.datasets.CIFAR10), (Cifar100, torchvision.datasets.CIFAR100)]
)
def test_cifar_constants_are_those_of_torchvision(ours: Any, theirs: Any) -> None:
    """Folder, file names and md5 sums, and address and md5 of the archive."""
    assert (ours.archive.filename, ours.archive.url, ours.archive.md5, ours.archive.folder) == (
        theirs.filename,
        theirs.url,
        theirs.tgz_md5,
        theirs.base_folder,
    )
    assert list(ours.train_files.items()) == [tuple(row) for row in theirs.train_list]
    assert list(ours.test_files.items()) == [tuple(row) for row in theirs.test_list]
