"""Small pre-norm transformers with all weights random, their groups, and planted elements of these groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from basin.matching.toy_networks import built
from harness import StateDict
from harness_basin.matching import (
    LinearGroup,
    Symmetry,
    act,
    derive_linear_groups,
    derive_symmetry,
    permute,
    random_elements,
    random_permutations,
)
from harness_basin.matching.residual.normal_form import NormalForm, find_idle_biases
from harness_basin.matching.residual.residual_groups import ResidualGroups, residual_groups
from harness_vision.vit_network import ViTNetwork

IMAGES = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@dataclass(frozen=True)
class Derived:
    """A network in float64, and all its groups."""

    network: nn.Module
    symmetry: Symmetry
    linear: tuple[LinearGroup, ...]
    groups: ResidualGroups
    idle_biases: tuple

    def form(self, balanced: bool = True) -> NormalForm:
        """Return the normal form."""
        return NormalForm(self.groups, self.idle_biases, balanced)


def vit(seed: int = 0) -> nn.Module:
    """Return a transformer of two blocks with four heads, whose embeddings and classifier determine the map of the stream."""
    sizes = {"patch": 4, "width": 32, "mlp": 40, "depth": 2, "heads": 4}
    return built(lambda: ViTNetwork((3, 8, 8), 10, **sizes, dropout=0.0, attention_dropout=0.0), seed).double()


@cache
def derived(seed: int = 0) -> Derived:
    """Return a transformer with its groups."""
    network = vit(seed)
    symmetry = derive_symmetry(network, IMAGES)
    linear = derive_linear_groups(network, IMAGES, symmetry).groups
    groups = residual_groups(symmetry, linear)
    return Derived(network, symmetry, linear, groups, find_idle_biases(network, groups, IMAGES))


def planted(own: Derived, state: StateDict, seed: int, *, invertible: bool = True) -> StateDict:
    """Return a state in normal form moved by random permutations, rotations of the stream, and maps within heads."""
    linear = [group for group in own.linear if group.kind != "scale"]
    if not invertible:
        linear = [replace(group, kind="orthogonal") for group in linear]
    moved = act(linear, random_elements(linear, seed), state)
    return permute(own.symmetry, random_permutations(own.symmetry, seed), moved)


def largest_difference(one: StateDict, other: StateDict) -> float:
    """Return the largest difference of two states' values."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def loss(own: Derived, state: StateDict, labels: Tensor) -> float:
    """Return the cross-entropy of a network on the images."""
    with torch.no_grad():
        logits = torch.func.functional_call(own.network, dict(state), (IMAGES,))
    return float(torch.nn.functional.cross_entropy(logits, labels))
