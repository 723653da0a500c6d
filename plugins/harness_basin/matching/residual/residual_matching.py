"""Weight matching of residual networks in normal form (GLMC; Theus et al. 2025, section 4).

It minimizes ‖θ_1 - g θ_2‖² over permutations of MLP units and heads, orthogonal maps of the residual streams, and maps within
heads, one group at a time. Every visit of a group lowers the distance or changes nothing. Both networks are in normal form.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from harness import TaskFailed
from harness_basin.matching.coordinate_descent.assignment import assign
from harness_basin.matching.residual.moves import (
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
from harness_basin.matching.residual.procrustes import (
    gram,
    invertible_factor_maps,
    orthogonal_factor_maps,
    orthogonal_map,
    partial_map,
    product_gains,
    stream_map,
)
from harness_basin.matching.residual.residual_groups import ResidualGroups, Stream
from harness_basin.matching.symmetry import Block

Maps = Literal["orthogonal", "invertible"]
"""The maps within heads."""

PROGRESS = 1e-12
"""The smallest fall of the distance that counts, relative to the squared norm of the reference: rounding is below."""


class ResidualMatching:
    """Moves one network's weights to a reference's. `moves` are all moves so far, in order."""

    def __init__(
        self, groups: ResidualGroups, reference: Mapping[Block, Tensor], other: Mapping[Block, Tensor], maps: Maps
    ) -> None:
        self.groups = groups
        self.reference = reference
        self.arrays: Arrays = dict(other)
        self.maps = maps
        self.moves: list[Move] = []
        self.assignments = 0
        self.scale = _squared_norm(reference, groups.counted)
        self.distance = require_finite(_squared_distance(reference, other, groups.counted))
        self.trace = [self.distance]

    def begin(self) -> None:
        """Move to a start that does not depend on the order of units or the axes of the streams.

        Weights that only a stream maps (embeddings, classifier) give its map, as far as they determine it; the other groups
        follow from it, and then the whole map. The start is not used if the distance is larger there, which happens if the
        networks are nearly aligned.
        """
        draft = ResidualMatching(self.groups, self.reference, self.arrays, "orthogonal")
        for stream in self.groups.streams:
            anchors = self._anchors(stream)
            if anchors:
                rotation = Rotate(stream.sites, partial_map(draft._products(anchors)))
                draft.arrays.update(rotation.apply(draft.arrays))
        found: list[Move] = [draft._unit_move(sites) for sites in self.groups.units]
        for heads in self.groups.heads:
            found += draft._head_moves(heads)
        self.assignments += draft.assignments
        draft.arrays = dict(self.arrays)
        for move in found:
            draft.arrays.update(move.apply(draft.arrays))
        for stream in self.groups.streams:
            rotation = draft._rotation(stream)
            draft.arrays.update(rotation.apply(draft.arrays))
            found.append(rotation)
        self._accept(found)

    def sweep(self) -> bool:
        """Visit every group once: MLP units, heads with the maps within them, streams. Return whether the distance fell."""
        before = self.distance
        for sites in self.groups.units:
            self._accept([self._unit_move(sites)])
        for heads in self.groups.heads:
            moves = self._head_moves(heads)
            reordered = any(isinstance(move, Permute) and not move.is_identity for move in moves)
            self._accept(moves, alternative=self._factor_moves(heads, self.arrays) if reordered else ())
        for stream in self.groups.streams:
            self._accept([self._rotation(stream)])
        return self.distance < before

    def _unit_move(self, sites: Sequence[Site]) -> Permute:
        self.assignments += 1
        return Permute(tuple(sites), torch.from_numpy(assign(self._products(sites).numpy())))

    def _rotation(self, stream: Stream) -> Rotate:
        products = self._products(stream.sites)
        return Rotate(stream.sites, stream_map(products) if stream.fixes_ones else orthogonal_map(products))

    def _head_moves(self, heads: Heads) -> list[Move]:
        """Match heads by their products QᵀK and OV, and then map the dimensions within them."""
        if not heads.sites:
            return self._factor_moves(heads, self.arrays)
        order = Permute(heads.sites, torch.from_numpy(assign(self._head_gains(heads).numpy())))
        self.assignments += 1
        return [order, *self._factor_moves(heads, self.arrays | order.apply(self.arrays))]

    def _head_gains(self, heads: Heads) -> Tensor:
        """Return ⟨P_i, P_j⟩ for each pair of heads, (heads, heads): the part of ‖P_i - P_j‖² that the assignment affects."""
        size = heads.sites[0].block.factors[heads.sites[0].axis].size
        gains = torch.zeros(size, size, dtype=torch.float64)
        for factors in heads.factors:
            gains += product_gains(_factors(self.reference, factors), _factors(self.arrays, factors))
        if self.groups.counted.intersection(site.block for site in heads.whole):
            gains += self._products(heads.whole)
        return gains

    def _factor_moves(self, heads: Heads, arrays: Mapping[Block, Tensor]) -> list[Move]:
        found: list[Move] = []
        for factors in heads.factors:
            reference = _factors(self.reference, factors)
            other = _factors(arrays, factors)
            matrices = orthogonal_factor_maps(reference, other)
            if self.maps == "invertible":
                matrices = invertible_factor_maps(reference, other, matrices)
            found.append(MapHeads(factors, matrices))
        return found

    def _accept(self, moves: Sequence[Move], alternative: Sequence[Move] = ()) -> None:
        """Make the moves or the alternative, whichever lowers the distance more; neither if both raise it."""
        fall, changed = self._fall(moves)
        other_fall, other_changed = self._fall(alternative)
        if other_fall > fall:
            moves, fall, changed = alternative, other_fall, other_changed
        if fall > PROGRESS * self.scale:
            self.arrays.update(changed)
            self.moves += moves
            self.distance = max(0.0, self.distance - fall)
            self.trace.append(self.distance)

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

    def _anchors(self, stream: Stream) -> list[Site]:
        """Return the sites of a stream in counted blocks that no other group moves."""
        moved: set[Block] = set()
        for sites in (*self.groups.units, *(heads.sites for heads in self.groups.heads)):
            moved.update(site.block for site in sites)
        return [site for site in stream.sites if site.block in self.groups.counted - moved]


def match_residual(
    groups: ResidualGroups, reference: Mapping[Block, Tensor], other: Mapping[Block, Tensor], *, sweeps: int, maps: Maps
) -> ResidualMatching:
    """Return the matching of a network to a reference after at most `sweeps` sweeps; one without progress is the last.

    Without sweeps nothing is moved. Raise `TaskFailed` for weights that are not finite.
    """
    matching = ResidualMatching(groups, reference, other, maps)
    if sweeps:
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


def _factors(arrays: Mapping[Block, Tensor], factors: HeadFactors) -> tuple[Tensor, Tensor]:
    return head_factor(arrays, factors.direct), head_factor(arrays, factors.inverse)


def _squared_distance(reference: Mapping[Block, Tensor], arrays: Mapping[Block, Tensor], blocks: Iterable[Block]) -> float:
    return sum(float((reference[block] - arrays[block]).square().sum()) for block in blocks)


def _squared_norm(arrays: Mapping[Block, Tensor], blocks: Iterable[Block]) -> float:
    return sum(float(arrays[block].square().sum()) for block in blocks)
