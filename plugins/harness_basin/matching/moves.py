"""Maps of residual networks in normal form, one group at a time, on the blocks of their weights.

The weights of a member are arrays, one per block of the network's `Symmetry`, with one axis per factor. A move changes some of
them and keeps the function. Every move has an inverse, so that moves of the first member can be undone on all members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import StateDict
from harness_basin.matching.symmetry import Symmetry

Arrays = dict[int, Tensor]
"""Weights by block number, each with one axis per factor of the block."""


@dataclass(frozen=True)
class Site:
    """An axis of a block that a group maps. `heads` is the axis of the heads that the group is within."""

    block: int
    axis: int
    heads: int | None = None


@dataclass(frozen=True)
class HeadFactors:
    """The dimensions within attention heads that an invertible map X per head may mix.

    X maps the direct sites (queries; values), and X⁻ᵀ the inverse ones (keys; outputs).
    """

    direct: tuple[Site, ...]
    inverse: tuple[Site, ...]


@dataclass(frozen=True)
class Heads:
    """The attention heads of a layer: their sites, and the factors within them."""

    sites: tuple[Site, ...]
    factors: tuple[HeadFactors, ...]


@dataclass(frozen=True)
class Permute:
    """Move unit `order[i]` to position i: units of an MLP, or heads with all that is within them."""

    sites: tuple[Site, ...]
    order: Tensor

    def apply(self, arrays: Mapping[int, Tensor]) -> Arrays:
        """Return the blocks that change."""
        return {site.block: arrays[site.block].index_select(site.axis, self.order) for site in self.sites}

    def inverse(self) -> Permute:
        """Return the move that undoes this one."""
        return Permute(self.sites, self.order.argsort())


@dataclass(frozen=True)
class Rotate:
    """Map a residual stream by an orthogonal matrix (units, units) that fixes the vector of ones."""

    sites: tuple[Site, ...]
    matrix: Tensor

    def apply(self, arrays: Mapping[int, Tensor]) -> Arrays:
        """Return the blocks that change."""
        changed = {}
        for site in self.sites:
            mapped = torch.tensordot(self.matrix, arrays[site.block], dims=([1], [site.axis]))
            changed[site.block] = mapped.movedim(0, site.axis).contiguous()
        return changed

    def inverse(self) -> Rotate:
        """Return the move that undoes this one."""
        return Rotate(self.sites, self.matrix.T)


@dataclass(frozen=True)
class MapHeads:
    """Map the dimensions within every head by an invertible matrix; maps (heads, units, units)."""

    factors: HeadFactors
    maps: Tensor

    def apply(self, arrays: Mapping[int, Tensor]) -> Arrays:
        """Return the blocks that change."""
        changed = {}
        inverse_transposed = torch.linalg.inv(self.maps).mT
        for sites, maps in ((self.factors.direct, self.maps), (self.factors.inverse, inverse_transposed)):
            for site in sites:
                array = arrays[site.block]
                mapped = maps @ head_matrix(array, site)
                changed[site.block] = unhead_matrix(mapped, site, array.shape)
        return changed

    def inverse(self) -> MapHeads:
        """Return the move that undoes this one."""
        return MapHeads(self.factors, torch.linalg.inv(self.maps))


Move = Permute | Rotate | MapHeads


def unit_matrix(array: Tensor, site: Site) -> Tensor:
    """Return a block as a matrix (units, rest)."""
    return array.movedim(site.axis, 0).flatten(1) if array.dim() > 1 else array[:, None]


def head_matrix(array: Tensor, site: Site) -> Tensor:
    """Return a block as (heads, units, rest)."""
    assert site.heads is not None
    moved = array.movedim((site.heads, site.axis), (0, 1))
    return moved.reshape(*moved.shape[:2], -1)


def unhead_matrix(matrix: Tensor, site: Site, shape: Sequence[int]) -> Tensor:
    """Return (heads, units, rest) as a block of the given shape."""
    assert site.heads is not None
    rest = [size for axis, size in enumerate(shape) if axis not in (site.heads, site.axis)]
    return matrix.reshape(*matrix.shape[:2], *rest).movedim((0, 1), (site.heads, site.axis)).contiguous()


def head_factor(arrays: Mapping[int, Tensor], sites: Sequence[Site]) -> Tensor:
    """Return the blocks at some sites side by side, (heads, units, rest): a projection with its bias."""
    return torch.cat([head_matrix(arrays[site.block], site) for site in sites], dim=2)


def split_head_factor(factor: Tensor, arrays: Mapping[int, Tensor], sites: Sequence[Site]) -> Arrays:
    """Return the blocks that `head_factor` put side by side."""
    widths = [head_matrix(arrays[site.block], site).shape[2] for site in sites]
    found = {}
    for part, site in zip(factor.split(widths, dim=2), sites, strict=True):
        found[site.block] = unhead_matrix(part, site, arrays[site.block].shape)
    return found


def arrays_of(symmetry: Symmetry, state: StateDict) -> Arrays:
    """Return copies of the blocks of a network's weights, in float64."""
    arrays = {}
    for number, block in enumerate(symmetry.blocks):
        arrays[number] = block.view(state[block.parameter].contiguous()).double().clone()
    return arrays


def state_of(symmetry: Symmetry, arrays: Mapping[int, Tensor], state: StateDict) -> StateDict:
    """Return a state dict with the given blocks, in float64, and all other values of a state dict."""
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        if tensor.is_floating_point():
            result[name] = result[name].double()
    for number, block in enumerate(symmetry.blocks):
        block.view(result[block.parameter]).copy_(arrays[number])
    return result
