"""OT fusion's alignment: greedy optimal transport from the input to the output (Singh and Jaggi 2020).

Groups are matched in the order in which the network first writes them. The cost of matching two units is the Euclidean
distance of their incoming weights, whose inputs are already transported. With uniform marginals and equal widths the exact
transport plan times the width is a permutation, so it is a linear assignment problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from harness import StateDict, TaskFailed
from harness_basin.matching.coordinate_descent.assignment import assign
from harness_basin.matching.coordinate_descent.gram import Pair
from harness_basin.matching.coordinate_descent.nested_assignment import Choice, Grams, choose_root, total_gain
from harness_basin.matching.optimal_transport.incoming_weights import IncomingWeights, write_order
from harness_basin.matching.optimal_transport.linear_maps import LinearMap
from harness_basin.matching.sinkhorn_rebasin.sinkhorn import normalize
from harness_basin.matching.sinkhorn_rebasin.soft_maps import Maps, map_block, permutation_maps
from harness_basin.matching.symmetry import Block, Permutations, Symmetry, identity, permute_block, unit_map

ROUNDS = 20
"""The smallest number of Sinkhorn's rounds for a soft transport."""


@dataclass(frozen=True)
class Transport:
    """The maps of one network's units to another's.

    `maps` are the soft transport plans, times the width; None if only permutations were asked for. `cost` is the sum over
    groups of the matched units' costs (of soft plans, the costs of all pairs times the plan), and `identity_cost` that of the
    units as they are. `assignments` is the number of
    linear assignment problems.
    """

    permutations: Permutations
    maps: Maps | None
    cost: float
    identity_cost: float
    assignments: int


def transport(
    symmetry: Symmetry,
    maps: Sequence[LinearMap],
    reference: StateDict,
    other: StateDict,
    *,
    normalized: bool = False,
    vectors: bool = False,
    regularization: float | None = None,
) -> Transport:
    """Return the maps that transport the other network's units to the reference's, one group at a time.

    `maps` are the network's linear maps in order. `normalized` divides the incoming weights of every unit by their norm.
    `vectors` counts biases, scales and shifts, too. `regularization` adds the entropy with this factor, as Sinkhorn's
    iteration does, and gives soft maps. Raise `Mismatch` for weights of another network, and `TaskFailed` for weights that
    are not finite.
    """
    pair = Pair(symmetry, symmetry.checked(reference, "reference"), symmetry.checked(other, "other"), torch.float64)
    greedy = _Greedy(pair, IncomingWeights(symmetry, maps, vectors), normalized, regularization)
    for group in write_order(symmetry, maps):
        greedy.match(group)
    soft = None
    if regularization is not None:
        soft = tuple(greedy.maps)
    return Transport(greedy.permutations, soft, greedy.cost, greedy.identity_cost, greedy.assignments)


class _Greedy:
    """Matches groups one after another. What is matched is not changed again."""

    def __init__(self, pair: Pair, incoming: IncomingWeights, normalized: bool, regularization: float | None) -> None:
        self.pair = pair
        self.symmetry = pair.symmetry
        self.incoming = incoming
        self.normalized = normalized
        self.regularization = regularization
        self.permutations = identity(pair.symmetry)
        self.maps: list[Tensor] = []
        if regularization is not None:
            self.maps = list(permutation_maps(self.permutations))
        self.matched: set[int] = set()
        self.cost = 0.0
        self.identity_cost = 0.0
        self.assignments = 0

    def match(self, group: int) -> None:
        """Match a group. A group within others is matched together with these, unless they are matched already."""
        root = self.symmetry.path(group)[0]
        if root not in self.matched:
            self._match_root(root)
        if group not in self.matched:
            self._match_within(group)

    def _match_root(self, root: int) -> None:
        """Match a group that is within no other, and those groups within it whose incoming weights are known."""
        groups = [group for group in range(len(self.symmetry.groups)) if self.symmetry.path(group)[0] == root]
        gains = self._gains(groups)
        choice = choose_root(self.symmetry, gains, root)
        self.permutations = choice.applied_to(self.permutations)
        if self.regularization is None:
            self.cost -= choice.value
        else:
            self.cost += self._soften(choice, gains, 0)
        self.matched.update(gains, {root})
        self.assignments += _assignments(choice)

    def _match_within(self, group: int) -> None:
        """Match a group in each unit of its outer groups, which stay as they are."""
        self.matched.add(group)
        size = self.symmetry.groups[group].size
        known = self._gains([group])
        if group not in known:
            return
        gains = known[group]
        found = self.permutations[group].clone()
        units = unit_map(self.symmetry, self.permutations, self.symmetry.groups[group].within)
        for position, unit in enumerate(units.tolist()):
            own = gains[position * size : (position + 1) * size, unit * size : (unit + 1) * size]
            permutation = assign(own)
            found.view(-1, size)[unit] = torch.from_numpy(permutation)
            if self.regularization is None:
                self.cost -= total_gain(own, permutation)
            else:
                self.cost += self._set_map(group, unit, own)
            self.assignments += 1
        self.permutations = (*self.permutations[:group], found, *self.permutations[group + 1 :])

    def _soften(self, choice: Choice, gains: Grams, position: int) -> float:
        """Set the soft maps of a choice at a position of its outer groups, and those of its inner choices; return their cost.

        The units within unit j are compared with those within the unit that the exact plan matches j to. For all other pairs of
        outer units the cost of their inner units is that of the exact inner plan.
        """
        size = len(choice.permutation)
        own = np.zeros((size, size))
        if choice.group in gains:
            rows = slice(position * size, (position + 1) * size)
            columns = slice(choice.unit * size, (choice.unit + 1) * size)
            own = gains[choice.group][rows, columns]
        inner_costs = np.zeros((size, size))
        for table in choice.inner:
            exact = np.array([[inner.value for inner in row] for row in table])
            own = own + exact
            inner_costs[np.arange(size), choice.permutation] += exact[np.arange(size), choice.permutation]
            for i, j in enumerate(choice.permutation):
                inner_costs[i, j] += self._soften(table[i][j], gains, position * size + i)
        if choice.group not in gains and not choice.inner:
            return 0.0
        return self._set_map(choice.group, choice.unit, own, inner_costs)

    def _set_map(self, group: int, unit: int, gains: np.ndarray, more: np.ndarray | float = 0.0) -> float:
        """Set the soft plan of some gains; return its cost. `more` is added to the costs of pairs once the plan is found."""
        assert self.regularization is not None, "exact plans have no soft maps"
        size = len(gains)
        soft = normalize(torch.from_numpy(gains) / self.regularization, ROUNDS)
        self.maps[group].view(-1, size, size)[unit] = soft
        return float((soft.numpy() * (more - gains)).sum())

    def _gains(self, groups: Sequence[int]) -> Grams:
        """Return the negative costs of the units of some groups, for those whose incoming weights are known."""
        gains: Grams = {}
        for block, (group, axes) in self.incoming.terms(groups, self.matched):
            costs, diagonal = self._costs(block, axes)
            gains[group] = gains.get(group, 0) - costs
            self.identity_cost += diagonal
        return gains

    def _costs(self, block: Block, axes: Sequence[int]) -> tuple[np.ndarray, float]:
        """Return the distances (units of a, units of b) of rows of weights, and the sum of the distances of equal units."""
        a, b = self.pair.views(block)
        moved = b.double()
        if self.regularization is None:
            moved = permute_block(self.symmetry, block, moved, self.permutations, keep=axes)
        else:
            moved = map_block(self.symmetry, block, moved, tuple(self.maps), keep=axes)
        rows = self._rows(a, axes)
        costs = torch.cdist(rows, self._rows(moved, axes), compute_mode="donot_use_mm_for_euclid_dist").numpy()
        diagonal = float((rows - self._rows(b, axes)).norm(dim=1).sum())
        total = float(costs.sum())
        if not isfinite(total) or not isfinite(diagonal):
            raise TaskFailed(f"ot: a distance between rows of '{block.parameter}' is not finite; have the members diverged?")
        return costs, diagonal

    def _rows(self, view: Tensor, axes: Sequence[int]) -> Tensor:
        """Return a block as (units, rest) in float64."""
        others = [axis for axis in range(view.dim()) if axis not in axes]
        units = 1
        for axis in axes:
            units *= view.shape[axis]
        rows = view.permute(*axes, *others).reshape(units, -1).double()
        if self.normalized:
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return rows


def _assignments(choice: Choice) -> int:
    """Return the number of linear assignment problems that were solved for a choice and its inner choices."""
    return 1 + sum(_assignments(inner) for table in choice.inner for row in table for inner in row)
