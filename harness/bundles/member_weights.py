"""Weights of published members: read against size and digest, and loaded into a network. No code is loaded with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.bundles.digests import FileDigest, digest_of_bytes
from harness.bundles.layout import WEIGHTS, BundleError, file_size
from harness.bundles.member_config import read_config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.api.data import StateDict
    from harness.registry.catalogue import Catalogue

_HEADER = 2**24
"""The most bytes that a safetensors file may have beside its tensors."""


def load_member(path: str | Path, data: str | Path | None = None, catalogue: Catalogue | None = None) -> nn.Module:
    """Return the network of a published member with its weights, in evaluation mode, on the CPU. No store is needed.

        network = harness.load_member("bundle/members/0123…")
        logits = network(images)

    `path` is the member's folder, with `model.safetensors` and `config.json`. Inputs are normalized images, float32
    (batch, channels, height, width), outputs logits (batch, classes); `config.json` has mean and standard deviation per
    channel. `data` is the data root; it matters only for networks that depend on files there. `catalogue` holds the plugins,
    by default the installed ones. Raise `BundleError` if a file is missing or damaged, if the plugin of the network is not
    installed or has another version, or if the weights are not its.
    """
    from harness.execution.plugin_calls import build_module, make_architecture, plugin_label
    from harness.networks.flat_network import FlatNetwork
    from harness.registry.catalogue import load_catalogue
    from harness.registry.recorded_identity import present_identity
    from harness.runs.places import data_folder, expanded

    folder = expanded(os.fspath(path), "load_member")
    config = read_config(folder)
    known = catalogue or load_catalogue()
    identity = present_identity(known, "architecture", config.setting.architecture)
    architecture = make_architecture(known, identity, data_folder(data))
    module = build_module(architecture, plugin_label(known, "architecture", architecture), config, 0)
    state = read_weights(folder / WEIGHTS, config.weights, like=module.state_dict())
    try:
        FlatNetwork(module, "cpu").load(state)
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{folder / WEIGHTS}: does not fit {config.architecture}: {error}") from None
    return module.eval()


def read_weights(path: Path, digest: FileDigest, *, like: StateDict) -> StateDict:
    """Return the state dict in a member's file, checked against its digest and against the tensors of its network.

    `like` is the state dict of a network of the member's architecture. A file that is larger than its tensors is not read.
    Raise `BundleError` if the file is missing, has other bytes, or holds other tensors.
    """
    import safetensors.torch

    size = file_size(path)
    most = _HEADER + sum(tensor.numel() * tensor.element_size() for tensor in _tensors(like).values())
    if size != digest.bytes:
        raise BundleError(f"{path}: has {size} bytes, not {digest.bytes}; was it cut short?" if size else f"{path}: not there")
    if size > most:
        raise BundleError(f"{path}: has {size} bytes, more than the network's tensors take; it is not read")
    try:
        raw = files.read(path, most)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror or error}") from None
    if digest_of_bytes(raw) != digest:
        raise BundleError(f"{path}: does not match its digest; was it changed?")
    try:
        state = safetensors.torch.load(raw)
    except Exception as error:  # the digest fits, but it is no safetensors file: any error may come
        raise BundleError(f"{path}: is not safetensors ({type(error).__name__})") from None
    _check_tensors(path, state, _tensors(like))
    return state


def _tensors(state: StateDict) -> dict[str, Tensor]:
    """Return the tensors of a state dict, without extra state, which may be of any type and size."""
    return {name: value for name, value in state.items() if not name.endswith("_extra_state")}


def _check_tensors(path: Path, state: StateDict, like: dict[str, Tensor]) -> None:
    """Raise `BundleError` for the first tensor that is missing, has another shape or dtype, or is not the network's."""
    for name, tensor in like.items():
        if name not in state:
            raise BundleError(f"{path}: has no tensor '{name}', which the network has; is it of another architecture?")
        given = state[name]
        if given.shape != tensor.shape or given.dtype != tensor.dtype:
            found, expected = _describe(given), _describe(tensor)
            raise BundleError(f"{path}: '{name}' is {found}, the network's {expected}; is it of another architecture?")
    for name in _tensors(state):
        if name not in like:
            raise BundleError(f"{path}: has a tensor {name!r:.60}, which the network has not; is it of another architecture?")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
