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
from harness_basin.matching.symmetry import Block, Symmetry

Arrays = dict[Block, Tensor]
"""Weights by block, each with one axis per factor of the block."""


@dataclass(frozen=True)
class Site:
    """An axis of a block that a group maps. `heads` is the axis of the heads that the group is within, if it is."""

    block: Block
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
    """The attention heads of a layer: their sites, and the factors within them.

    `whole` are the sites of blocks without such factors, whose dimensions stay in their order. Factors without heads have no
    sites: they are a single head.
    """

    sites: tuple[Site, ...]
    factors: tuple[HeadFactors, ...]
    whole: tuple[Site, ...] = ()


@dataclass(frozen=True)
class Permute:
    """Move unit `order[i]` to position i: units of an MLP, or heads with all that is within them."""

    sites: tuple[Site, ...]
    order: Tensor

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return torch.equal(self.order, torch.arange(len(self.order)))

    def apply(self, arrays: Mapping[Block, Tensor]) -> Arrays:
        """Return the blocks that change."""
        changed: Arrays = {}
        for site in self.sites:
            array = changed.get(site.block, arrays[site.block])
            changed[site.block] = array.index_select(site.axis, self.order)
        return changed

    def inverse(self) -> Permute:
        """Return the move that undoes this one."""
        return Permute(self.sites, self.order.argsort())


@dataclass(frozen=True)
class Rotate:
    """Map a residual stream by an orthogonal matrix (units, units)."""

    sites: tuple[Site, ...]
    matrix: Tensor

    def apply(self, arrays: Mapping[Block, Tensor]) -> Arrays:
        """Return the blocks that change."""
        changed: Arrays = {}
        for site in self.sites:
            array = changed.get(site.block, arrays[site.block])
            mapped = torch.tensordot(self.matrix, array, dims=([1], [site.axis]))
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

    def apply(self, arrays: Mapping[Block, Tensor]) -> Arrays:
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
    return array.movedim(site.axis, 0).reshape(array.shape[site.axis], -1)


def head_matrix(array: Tensor, site: Site) -> Tensor:
    """Return a block as (heads, units, rest); a block without heads has one."""
    if site.heads is None:
        return unit_matrix(array, site)[None]
    moved = array.movedim((site.heads, site.axis), (0, 1))
    return moved.reshape(*moved.shape[:2], -1)


def unhead_matrix(matrix: Tensor, site: Site, shape: Sequence[int]) -> Tensor:
    """Return (heads, units, rest) as a block of the given shape."""
    rest = [size for axis, size in enumerate(shape) if axis not in (site.heads, site.axis)]
    if site.heads is None:
        return matrix[0].reshape(-1, *rest).movedim(0, site.axis).contiguous()
    return matrix.reshape(*matrix.shape[:2], *rest).movedim((0, 1), (site.heads, site.axis)).contiguous()


def head_factor(arrays: Mapping[Block, Tensor], sites: Sequence[Site]) -> Tensor:
    """Return the blocks at some sites side by side, (heads, units, rest): a projection with its bias."""
    return torch.cat([head_matrix(arrays[site.block], site) for site in sites], dim=2)


def split_head_factor(factor: Tensor, arrays: Mapping[Block, Tensor], sites: Sequence[Site]) -> None:
    """Write what `head_factor` put side by side back to the blocks, in place."""
    widths = [head_matrix(arrays[site.block], site).shape[2] for site in sites]
    for part, site in zip(factor.split(widths, dim=2), sites, strict=True):
        arrays[site.block].copy_(unhead_matrix(part, site, arrays[site.block].shape))


def arrays_of(symmetry: Symmetry, state: StateDict) -> Arrays:
    """Return copies of the blocks of a network's weights, in float64."""
    arrays = {}
    for block in symmetry.blocks:
        arrays[block] = block.view(state[block.parameter].contiguous()).double().clone()
    return arrays


def state_of(arrays: Mapping[Block, Tensor], state: StateDict) -> StateDict:
    """Return a float64 state dict with the given blocks, and all other values of a state dict."""
    result = float64_copy(state)
    for block, array in arrays.items():
        block.view(result[block.parameter]).copy_(array)
    return result


def float64_copy(state: StateDict) -> StateDict:
    """Return a copy of a state dict, with contiguous weights in float64."""
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        if tensor.is_floating_point():
            result[name] = result[name].double()
    return result
