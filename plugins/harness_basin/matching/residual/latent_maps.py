"""Latent matrices that are trained by gradients: their projections onto permutations, orthogonal and invertible maps.

The forward pass uses the projection, and the gradient passes to the latent matrix unchanged (a straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness_basin.matching.coordinate_descent.assignment import assign
from harness_basin.matching.residual.moves import (
    Arrays,
    HeadFactors,
    MapHeads,
    Move,
    Permute,
    Rotate,
    Site,
    head_matrix,
    unhead_matrix,
)
from harness_basin.matching.residual.procrustes import orthogonal_map, stream_map
from harness_basin.matching.residual.residual_groups import ResidualGroups, Stream
from harness_basin.matching.residual.residual_matching import Maps
from harness_basin.matching.symmetry import Block


@dataclass(frozen=True)
class LatentPermutation:
    """A latent matrix (units, units), projected by a linear assignment."""

    sites: tuple[Site, ...]

    def start(self) -> Tensor:
        """Return the latent matrix whose projection moves nothing."""
        site = self.sites[0]
        return torch.eye(site.block.factors[site.axis].size)

    def move(self, latent: Tensor) -> Move:
        """Return the projection as a move in float64."""
        return Permute(self.sites, torch.from_numpy(assign(latent.detach().double().cpu().numpy())))

    def apply(self, latent: Tensor, arrays: Mapping[Block, Tensor]) -> Arrays:
        """Return the blocks that change, with gradients to the latent matrix."""
        order = assign(latent.detach().double().cpu().numpy())
        matrix = torch.eye(len(latent), device=latent.device)[torch.from_numpy(order).to(latent.device)]
        return Rotate(self.sites, _straight_through(matrix, latent)).apply(arrays)


@dataclass(frozen=True)
class LatentRotation:
    """A latent matrix (units, units), projected to the closest orthogonal map of a residual stream."""

    stream: Stream

    def start(self) -> Tensor:
        """Return the latent matrix whose projection moves nothing."""
        site = self.stream.sites[0]
        return torch.eye(site.block.factors[site.axis].size)

    def move(self, latent: Tensor) -> Move:
        """Return the projection as a move in float64."""
        return Rotate(self.stream.sites, self._projected(latent).cpu())

    def apply(self, latent: Tensor, arrays: Mapping[Block, Tensor]) -> Arrays:
        """Return the blocks that change, with gradients to the latent matrix."""
        matrix = self._projected(latent).to(latent.dtype)
        return Rotate(self.stream.sites, _straight_through(matrix, latent)).apply(arrays)

    def _projected(self, latent: Tensor) -> Tensor:
        exact = latent.detach().double()
        return stream_map(exact) if self.stream.fixes_ones else orthogonal_map(exact)


@dataclass(frozen=True)
class LatentHeadMaps:
    """Latent matrices (heads, units, units) of the dimensions within heads. Invertible maps need no projection."""

    factors: HeadFactors
    maps: Maps

    def start(self) -> Tensor:
        """Return the latent matrices that move nothing."""
        site = self.factors.direct[0]
        size = site.block.factors[site.axis].size
        heads = 1 if site.heads is None else site.block.factors[site.heads].size
        return torch.eye(size).repeat(heads, 1, 1)

    def move(self, latent: Tensor) -> Move:
        """Return the projection as a move in float64."""
        exact = latent.detach().double()
        return MapHeads(self.factors, (orthogonal_map(exact) if self.maps == "orthogonal" else exact).cpu())

    def apply(self, latent: Tensor, arrays: Mapping[Block, Tensor]) -> Arrays:
        """Return the blocks that change, with gradients to the latent matrices."""
        if self.maps == "orthogonal":
            direct = _straight_through(orthogonal_map(latent.detach().double()).to(latent.dtype), latent)
            inverse = direct
        else:
            direct = latent
            # Unlike `inv`, it does not raise for singular matrices: the loss says so.
            inverse = torch.linalg.inv_ex(latent)[0].mT
        changed = {}
        for sites, matrices in ((self.factors.direct, direct), (self.factors.inverse, inverse)):
            for site in sites:
                array = arrays[site.block]
                changed[site.block] = unhead_matrix(matrices @ head_matrix(array, site), site, array.shape)
        return changed


Latent = LatentPermutation | LatentRotation | LatentHeadMaps


def latents_of(groups: ResidualGroups, maps: Maps) -> tuple[Latent, ...]:
    """Return the latent matrices of one member, in the order in which their maps are applied."""
    found: list[Latent] = [LatentPermutation(sites) for sites in groups.units]
    for heads in groups.heads:
        if heads.sites:
            found.append(LatentPermutation(heads.sites))
        found += [LatentHeadMaps(factors, maps) for factors in heads.factors]
    found += [LatentRotation(stream) for stream in groups.streams]
    return tuple(found)


def mapped(latents: Sequence[Latent], matrices: Sequence[Tensor], arrays: Mapping[Block, Tensor]) -> Arrays:
    """Return the blocks of a member's weights that the maps change, with gradients to the matrices."""
    changed: Arrays = {}
    for latent, matrix in zip(latents, matrices, strict=True):
        changed |= latent.apply(matrix, {**arrays, **changed})
    return changed


def _straight_through(projected: Tensor, latent: Tensor) -> Tensor:
    return projected + latent - latent.detach()
