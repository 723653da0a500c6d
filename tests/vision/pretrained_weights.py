"""Pretrained weights of small models of timm, as files on this machine, and the messages when they cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from harness import UserError
from harness_vision.timm_backbones import TimmBackbone, TimmOptions

MODEL = "test_resnet"
TAGGED = "test_resnet.r160_in1k"
BY_URL = "legacy_seresnet18"
"""A model whose weights are at a plain URL, not on Hugging Face."""

BENCHMARK = f"""
seeds: [0]
members: 2
datasets: [digits]
architectures: [timm/{MODEL}: {{pretrained: true}}, resnet20]
methods: [deep]
recipe: {{epochs: 1}}
"""


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    """Return the state dict of the model, initialized from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state: dict[str, torch.Tensor] = timm.create_model(MODEL).state_dict()
    return state


def put_weights(hub: Path, seed: int, *, link: bool = False, filename: str = "model.safetensors") -> Path:
    """Write weights to a cache of Hugging Face as a download does; return the path of the bytes.

    With `link`, the snapshot has a symbolic link to a blob; without, a file, as on systems without links.
    """
    repository = hub / f"models--timm--{TAGGED}"
    snapshot = repository / "snapshots" / "0123abc"
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(snapshot.name)
    path = snapshot / filename
    if link:
        path = repository / "blobs" / f"blob{seed}"
    if filename.endswith(".safetensors"):
        save_file(weights_of(seed), path)
    else:
        torch.save(weights_of(seed), path)
    if link:
        (snapshot / filename).unlink(missing_ok=True)
        (snapshot / filename).symlink_to(path)
    return path


def backbone(variant: str = MODEL, **options: Any) -> TimmBackbone:
    """Return a model of timm, pretrained unless the options say otherwise."""
    architecture = TimmBackbone(TimmOptions.model_validate({"pretrained": True, **options}))
    architecture.variant = variant
    return architecture


def located(variant: str = MODEL) -> TimmBackbone:
    """Return a pretrained model whose weights have been found on this machine."""
    return backbone(variant).located(Path())


def location_error(variant: str = MODEL) -> str:
    """Return the message, one line, with which the weights are not found."""
    with pytest.raises(UserError) as caught:
        located(variant)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sha256(path: Path) -> str:
    """Return the digest of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def different_tensors(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the tensors that differ."""
    return {name for name in state if not torch.equal(state[name], expected[name])}
