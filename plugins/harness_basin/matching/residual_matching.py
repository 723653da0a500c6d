"""Weight matching of residual networks in normal form (GLMC; Theus et al. 2025, section 4).

It minimizes ‖θ_1 - g θ_2‖² over permutations of MLP units and heads, orthogonal maps of the residual streams, and maps within
heads, one group at a time. Every visit of a group lowers the distance or changes nothing. Both networks are in normal form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness import TaskFailed
from harness_basin.matching.assignment import assign
from harness_basin.matching.moves import (
    Arrays,
    HeadFactors,
    Heads,
    MapHeads,
    Move,
    Permute,
    Rotate,
    Site,
    head_factor,
    unit_matrix,
)
from harness_basin.matching.procrustes import (
    gram,
    invertible_factor_maps,
    orthogonal_factor_maps,
    partial_map,
    product_gains,
    stream_map,
)

Maps = Literal["orthogonal", "invertible"]
"""The maps within heads."""

PROGRESS = 1e-12
"""The smallest fall of the distance that counts, relative to the squared norm of the reference."""


@dataclass(frozen=True)
class ResidualGroups:
    """The groups of a residual network in normal form. `counted` are the blocks whose distance is minimized."""

    streams: tuple[tuple[Site, ...], ...]
    units: tuple[tuple[Site, ...], ...]
    heads: tuple[Heads, ...]
    counted: frozenset[int]


class ResidualMatching:
    """Moves one network's weights to a reference's. `moves` are all moves so far, in order."""

    def __init__(self, groups: ResidualGroups, reference: Mapping[int, Tensor], other: Mapping[int, Tensor], maps: Maps) -> None:
        self.groups = groups
        self.reference = reference
        self.arrays: Arrays = dict(other)
        self.maps = maps
        self.moves: list[Move] = []
        self.assignments = 0
        self.scale = _squared_norm(reference, groups.counted)
        self.distance = self._distance_of(self.arrays)
        self.trace = [require_finite(self.distance)]

    def begin(self) -> None:
        """Move to a start that does not depend on the order of units or the axes of the streams.

        Weights that only a stream maps (embeddings, classifier) give its map, as far as they determine it; the other groups
        follow from it, and then the whole map. The move is undone if it does not lower the distance, which it does unless
        the networks are nearly aligned.
        """
        unmoved = self.arrays
        distance = self.distance
        self.arrays = dict(unmoved)
        for sites in self.groups.streams:
            anchors = self._anchors(sites)
            if anchors:
                rotation = Rotate(sites, partial_map(self._products(anchors)))
                self.arrays.update(rotation.apply(self.arrays))
        found = self._unit_moves()
        self.arrays = dict(unmoved)
        for move in found:
            self.arrays.update(move.apply(self.arrays))
        for sites in self.groups.streams:
            rotation = Rotate(sites, stream_map(self._products(sites)))
            self.arrays.update(rotation.apply(self.arrays))
            found.append(rotation)
        self.distance = self._distance_of(self.arrays)
        if self.distance < distance:
            self.moves += found
            self.trace.append(self.distance)
        else:
            self.arrays = unmoved
            self.distance = distance

    def sweep(self) -> bool:
        """Visit every group once: MLP units, heads with the maps within them, streams. Return whether the distance fell."""
        before = self.distance
        for sites in self.groups.units:
            self._accept([self._unit_move(sites)])
        for heads in self.groups.heads:
            self._visit_heads(heads)
        for sites in self.groups.streams:
            self._accept([Rotate(sites, stream_map(self._products(sites)))])
        return before - self.distance > PROGRESS * self.scale

    def _visit_heads(self, heads: Heads) -> None:
        """Match heads by their products and map the dimensions within them; keep the heads' order if that is closer."""
        kept = self._factor_moves(heads, self.arrays)
        order = self._head_move(heads)
        moved = self.arrays | order.apply(self.arrays)
        permuted = [order, *self._factor_moves(heads, moved)]
        if not self._accept(permuted, alternative=kept):
            self._accept(kept)

    def _unit_moves(self) -> list[Move]:
        """Move the units of all MLPs and heads to their best match; return the moves."""
        found: list[Move] = [self._unit_move(sites) for sites in self.groups.units]
        for heads in self.groups.heads:
            order = self._head_move(heads)
            found.append(order)
            found += self._factor_moves(heads, self.arrays | order.apply(self.arrays), "orthogonal")
        return found

    def _unit_move(self, sites: Sequence[Site]) -> Permute:
        self.assignments += 1
        return Permute(tuple(sites), torch.from_numpy(assign(self._products(sites).numpy())))

    def _head_move(self, heads: Heads) -> Permute:
        """Return the assignment of heads with the closest products QᵀK and OV: ‖P_i‖ and ‖P_j‖ do not affect it."""
        size = self.arrays[heads.sites[0].block].shape[heads.sites[0].axis]
        gains = torch.zeros(size, size, dtype=torch.float64)
        for factors in heads.factors:
            gains += product_gains(_factors(self.reference, factors), _factors(self.arrays, factors))
        self.assignments += 1
        return Permute(heads.sites, torch.from_numpy(assign(gains.numpy())))

    def _factor_moves(self, heads: Heads, arrays: Mapping[int, Tensor], maps: Maps | None = None) -> list[Move]:
        found: list[Move] = []
        for factors in heads.factors:
            reference = _factors(self.reference, factors)
            other = _factors(arrays, factors)
            matrices = orthogonal_factor_maps(reference, other)
            if (maps or self.maps) == "invertible":
                matrices = invertible_factor_maps(reference, other, matrices)
            found.append(MapHeads(factors, matrices))
        return found

    def _accept(self, moves: Sequence[Move], alternative: Sequence[Move] = ()) -> bool:
        """Make moves that lower the distance, and more than the alternative does. Return whether they were made."""
        fall, changed = self._fall(moves)
        if alternative and self._fall(alternative)[0] >= fall:
            return False
        if not fall > 0:
            return False
        self.arrays.update(changed)
        self.moves += moves
        self.distance = require_finite(self.distance - fall)
        self.trace.append(self.distance)
        return True

    def _fall(self, moves: Sequence[Move]) -> tuple[float, Arrays]:
        """Return by how much moves lower the distance, and the blocks that they change."""
        changed: Arrays = {}
        for move in moves:
            changed |= move.apply(self.arrays | changed)
        before = _squared_distance(self.reference, self.arrays, self.groups.counted & set(changed))
        after = _squared_distance(self.reference, changed, self.groups.counted & set(changed))
        return before - after, changed

    def _products(self, sites: Sequence[Site]) -> Tensor:
        """Return A Bᵀ (units, units), summed over the counted blocks at some sites."""
        total: Tensor | None = None
        for site in sites:
            if site.block in self.groups.counted:
                product = gram(unit_matrix(self.reference[site.block], site), unit_matrix(self.arrays[site.block], site))
                total = product if total is None else total + product
        assert total is not None
        return total

    def _anchors(self, sites: Sequence[Site]) -> list[Site]:
        """Return the sites of a stream in counted blocks that no other group moves."""
        moved: set[int] = set()
        for others in (*self.groups.units, *(heads.sites for heads in self.groups.heads)):
            moved.update(site.block for site in others)
        return [site for site in sites if site.block in self.groups.counted - moved]

    def _distance_of(self, arrays: Mapping[int, Tensor]) -> float:
        return _squared_distance(self.reference, arrays, self.groups.counted)


def match_residual(
    groups: ResidualGroups, reference: Mapping[int, Tensor], other: Mapping[int, Tensor], *, sweeps: int, maps: Maps
) -> ResidualMatching:
    """Return the matching of a network to a reference after at most `sweeps` sweeps; one without progress is the last.

    Raise `TaskFailed` for weights that are not finite.
    """
    matching = ResidualMatching(groups, reference, other, maps)
    matching.begin()
    for _ in range(sweeps):
        if not matching.sweep():
            break
    return matching


def require_finite(value: float) -> float:
    """Return a distance. Raise `TaskFailed` if it is infinite or not a number."""
    if not math.isfinite(value):
        raise TaskFailed(f"matching: the distance of the weights is {value}; have the members diverged?")
    return value


def _factors(arrays: Mapping[int, Tensor], factors: HeadFactors) -> tuple[Tensor, Tensor]:
    return head_factor(arrays, factors.direct), head_factor(arrays, factors.inverse)


def _squared_distance(reference: Mapping[int, Tensor], arrays: Mapping[int, Tensor], blocks: frozenset[int]) -> float:
    return sum(float((reference[block] - arrays[block]).square().sum()) for block in blocks)


def _squared_norm(arrays: Mapping[int, Tensor], blocks: frozenset[int]) -> float:
    return sum(float(arrays[block].square().sum()) for block in blocks)
