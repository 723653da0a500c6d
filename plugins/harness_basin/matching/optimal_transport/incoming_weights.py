"""The incoming weights of every group of units, and the order in which a network first writes the groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness_basin.matching.coordinate_descent.gram import GroupAxes, innermost_groups
from harness_basin.matching.optimal_transport.linear_maps import LinearMap
from harness_basin.matching.symmetry import Block, Symmetry

Term = tuple[Block, GroupAxes]
"""A block, a group, and the axes of the block that the group and its outer groups permute."""


def write_order(symmetry: Symmetry, maps: Sequence[LinearMap]) -> tuple[int, ...]:
    """Return all groups in the order in which linear maps first write them; groups that none writes come last."""
    order: dict[int, None] = {}
    for linear_map in maps:
        for block in symmetry.blocks:
            if linear_map.uses(block):
                for factor in block.factors:
                    if factor.group is not None and linear_map.role(factor) == "written":
                        order[factor.group] = None
    order.update(dict.fromkeys(range(len(symmetry.groups))))
    return tuple(order)


@dataclass(frozen=True)
class _Use:
    """A block that counts, the axes along which linear maps write units, and whether one reads or writes any of its units."""

    block: Block
    written: frozenset[int]
    used: bool


class IncomingWeights:
    """Selects the blocks whose rows are compared when a group is matched.

    `vectors` adds parameters that no linear map reads or writes units of: biases, scales and shifts, depthwise kernels.
    """

    def __init__(self, symmetry: Symmetry, maps: Sequence[LinearMap], vectors: bool) -> None:
        self.symmetry = symmetry
        self.vectors = vectors
        self.uses = [_use_of(block, maps) for block in symmetry.blocks if block.counts]

    def terms(self, groups: Sequence[int], matched: set[int]) -> list[Term]:
        """Return the incoming weights of some groups whose inputs are all fixed or among the matched groups.

        If there are none, return all incoming weights; without any, all weights of the groups.
        """
        ready = self._select(groups, lambda use, found: self._is_incoming(use, found) and _inputs(use, found) <= matched)
        return ready or self._select(groups, self._is_incoming) or self._select(groups, lambda use, found: True)

    def _is_incoming(self, use: _Use, found: GroupAxes) -> bool:
        return found.axes[-1] in use.written or (self.vectors and not use.used)

    def _select(self, groups: Sequence[int], accept: Callable[[_Use, GroupAxes], bool]) -> list[Term]:
        selected = []
        for use in self.uses:
            for found in innermost_groups(self.symmetry, use.block, groups):
                if accept(use, found):
                    selected.append((use.block, found))
        return selected


def _use_of(block: Block, maps: Sequence[LinearMap]) -> _Use:
    written: set[int] = set()
    used = False
    for linear_map in maps:
        if not linear_map.uses(block):
            continue
        for axis, factor in enumerate(block.factors):
            role = linear_map.role(factor)
            if role == "written":
                written.add(axis)
            used = used or (factor.group is not None and role != "shared")
    return _Use(block, frozenset(written), used)


def _inputs(use: _Use, found: GroupAxes) -> set[int]:
    """Return the groups that permute a block along other axes than those of a group and its outer groups."""
    return {group for axis, group in enumerate(use.block.groups) if group is not None and axis not in found.axes}
