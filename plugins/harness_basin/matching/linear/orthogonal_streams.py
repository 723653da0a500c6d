"""Find the orthogonal maps of residual streams that LayerNorms read.

For a matrix R with R Rᵀ = 1 and R 1 = 1, LN(R x) = R LN(x) if LN has scale 1 and shift 0. Scale and shift of a LayerNorm whose
output is read by linear maps only can be moved into these readers: this is the normal form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness import StateDict, streams
from harness_basin.matching.linear.certification import Refusal, normal_form
from harness_basin.matching.linear.integer_null_space import ROUNDING
from harness_basin.matching.linear.linear_groups import Action, LinearGroup, Normalization, Place, Reader
from harness_basin.matching.linear.scale_families import Family, bias_of
from harness_basin.matching.linear.tangents import Gradients, Spot, gradients
from harness_basin.matching.operation_mode import OperationMode
from harness_basin.matching.symmetry import Block, Factor, Symmetry
from harness_basin.normal_numbers import normal

Copies = Callable[[Spot, Action], list[Place]]


def orthogonal_groups(
    network: nn.Module,
    symmetry: Symmetry,
    spots: Sequence[Sequence[Spot]],
    families: Sequence[Family],
    weights: StateDict,
    inputs: Tensor,
    copies: Copies,
) -> tuple[list[LinearGroup], list[Refusal]]:
    """Return the groups of streams all of whose LayerNorms can be moved into linear readers, and refusals of the others.

    `spots` are the places of each permutation group, `families` its scales. `copies` returns a place in each name of a tied
    parameter. A stream is a permutation group of the scale of a LayerNorm.
    """
    layer_norms = _layer_norms(network, inputs[:1])
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    candidates = []
    for index, own in enumerate(spots):
        scales = [spot for spot in own if spot.block.parameter in layer_norms]
        normalizations = []
        for scale in scales:
            normalization = _normalization(scale, layer_norms, [f for f in families if f.index == index], shapes)
            if normalization is not None:
                normalizations.append(normalization)
        if scales and len(normalizations) == len(scales):
            candidates.append(_group(symmetry, index, own, normalizations, copies))
    if not candidates:
        return [], []
    found = gradients(network, normal_form(weights, candidates), inputs, 1)
    kept = []
    refused = []
    for group in candidates:
        if _rotates(group, spots[group.index], found):
            kept.append(group)
        elif len(group.normalizations) > 1:
            reason = "its units are not only added, normalized and read by linear maps"
            refused.append(Refusal("orthogonal", symmetry.groups[group.index].name, reason))
    return kept, refused


def _normalization(
    scale: Spot, layer_norms: dict[str, str | None], families: Sequence[Family], shapes: dict[str, tuple[int, ...]]
) -> Normalization | None:
    """Return the LayerNorm with its readers; None if its output is not only read by linear maps."""
    name = scale.block.parameter
    shift = layer_norms[name]
    for family in families:
        power = family.powers.get(scale, 0)
        if not power:
            continue
        writers = {spot.block.parameter for spot, other in family.powers.items() if other == power}
        if writers <= {name, shift}:
            readers = [_reader(spot, shapes) for spot, other in family.powers.items() if other == -power]
            return Normalization(name, shift, tuple(readers))
    return None


def _reader(spot: Spot, shapes: dict[str, tuple[int, ...]]) -> Reader:
    """Return a linear map that reads a stream, with its bias."""
    place = Place(spot.block, spot.axis, "inverse_transposed")
    found = bias_of(spot.block)
    if found is None or len(shapes[spot.block.parameter]) != 2 or spot.block.factors[spot.axis].axis != 1:
        return Reader(place, None)
    name, start = found
    if name not in shapes:
        return Reader(place, None)
    width = shapes[spot.block.parameter][1]
    rows = [Factor(0, factor.size, factor.stride // width, factor.group) for factor in spot.block.factors if factor.axis == 0]
    return Reader(place, Block(name, start, tuple(rows)))


def _group(
    symmetry: Symmetry, index: int, spots: Sequence[Spot], normalizations: Sequence[Normalization], copies: Copies
) -> LinearGroup:
    """Return the group that acts in all places of a stream but the scales and shifts of its LayerNorms."""
    affine = {normalization.scale for normalization in normalizations}
    affine |= {normalization.shift for normalization in normalizations if normalization.shift is not None}
    readers = {reader.place.block for normalization in normalizations for reader in normalization.readers}
    places: list[Place] = []
    for spot in spots:
        if spot.block.parameter not in affine:
            places += copies(spot, "inverse_transposed" if spot.block in readers else "direct")
    group = symmetry.groups[index]
    outer = symmetry.shape(index)[:-1]
    return LinearGroup(
        *("orthogonal", group.name, group.size, tuple(places), index, group.within, outer),
        fixes_ones=True,
        normalizations=tuple(normalizations),
    )


def _rotates(group: LinearGroup, spots: Sequence[Spot], found: Gradients) -> bool:
    """Return whether rotations that keep the ones keep the outputs to first order, at weights in normal form."""
    blocks = {place.block for place in group.places}
    left, right = normal((2, group.size), streams.key("rotation"))
    left -= left.mean()
    right -= right.mean()
    total = torch.zeros(())
    magnitude = torch.zeros(())
    for spot in spots:
        if spot.block in blocks:
            value, terms = found.mixing(spot, left, right)
            opposite, opposite_terms = found.mixing(spot, right, left)
            total = total + (value - opposite)
            magnitude = magnitude + (terms + opposite_terms)
    return bool(total.abs().max() <= ROUNDING * magnitude.max())


def _layer_norms(network: nn.Module, inputs: Tensor) -> dict[str, str | None]:
    """Return the names of the scales of LayerNorms, with those of their shifts, from a run of a copy of the network."""
    network = copy.deepcopy(network).to(torch.float64).eval()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    recorder = _LayerNorms(names)
    with torch.enable_grad(), recorder:  # without gradients, torch would run a transformer layer as one operation
        network(inputs)
    return recorder.found


class _LayerNorms(OperationMode):
    """Records the parameters of every LayerNorm that runs."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.found: dict[str, str | None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_layer_norm.default:
            scale, shift = args[2], args[3]
            if id(scale) in self.names:
                self.found[self.names[id(scale)]] = self.names.get(id(shift))
        return func(*args, **(kwargs or {}))
