"""The values of a validated benchmark: its cells and its JSON."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark.toy_catalogue import file_text, load


def test_order_of_cells(tmp_path: Path) -> None:
    """Cells are ordered by dataset, architecture, method and seed."""
    benchmark = load(
        tmp_path,
        file_text(
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


def test_resolved(tmp_path: Path) -> None:
    """The resolved benchmark is JSON with all defaults and without the path of the file."""
    resolved = load(
        tmp_path, file_text("recipe: {betas: [0.8, 0.9]}", architectures="[timm/vit_base]", methods="[constrained]")
    ).resolved()
    assert json.loads(json.dumps(resolved, allow_nan=False)) == resolved
    assert list(resolved) == [
        "name", "description", "seeds", "members", "datasets", "architectures", "metrics", "equivalence", "objective", "pairs"
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
