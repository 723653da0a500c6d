"""Coordinates of the descent: a group with the groups within it, and its best permutations while all others are held fixed.

Let W_a and W_b be the weights of two networks that a group permutes, laid out as (units, rest), with the other axes of W_b in
their current permutation. The objective is ⟨A, P⟩ + constant with the Gram matrix A = Σ W_a W_bᵀ. The best permutation P is
the solution of a linear assignment problem. This module knows nothing of the order in which coordinates are visited.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch

from harness_basin.matching.coordinate_descent.assignment import Assigner, assign
from harness_basin.matching.coordinate_descent.gram import GramTerm, Pair, gram, innermost_groups, require_finite
from harness_basin.matching.coordinate_descent.nested_assignment import Grams, choose_root, total_gain
from harness_basin.matching.symmetry import Block, Permutations, block_axes, unit_map

Proposal = Callable[[Permutations], Permutations]


def coordinates(pair: Pair) -> list[Coordinate]:
    """Return one coordinate per group that is within no other."""
    symmetry = pair.symmetry
    found = []
    for root, root_group in enumerate(symmetry.groups):
        if root_group.within:
            continue
        groups = [group for group in range(len(symmetry.groups)) if symmetry.path(group)[0] == root]
        blocks = [block for block in symmetry.blocks if block.counts and root in block.groups]
        coupled = any(len(innermost_groups(symmetry, block, groups)) > 1 for block in blocks)
        kind = CoupledCoordinate if coupled else Coordinate
        found.append(kind(pair, root, groups, blocks))
    return found


class Coordinate:
    """Groups that are permuted together: a root and the groups within it, such as heads and the dimensions of each head.

    `neighbors` are the groups whose permutations the best choice depends on.
    """

    def __init__(self, pair: Pair, root: int, groups: Sequence[int], blocks: Sequence[Block]) -> None:
        self.pair = pair
        self.root = root
        self.groups = groups
        self.blocks = blocks
        self.neighbors: set[int] = set()
        for block in blocks:
            self.neighbors.update(group for group in block.groups if group is not None)
        self.neighbors -= set(groups)
        self.terms: list[tuple[int, GramTerm]] = []
        self.grams: Grams = {}
        self.assigner = Assigner()

    def restart(self) -> None:
        """Forget the Gram matrices and the last assignment, for a new descent."""
        self.forget_grams()
        self.assigner = Assigner()

    def forget_grams(self) -> None:
        """Forget the Gram matrices, for other weights. The last assignment stays, as a start for the next one."""
        self.grams = {}
        for _, term in self.terms:
            term.reset()

    @property
    def problems(self) -> int:
        """The number of linear assignment problems that a visit solves."""
        return sum(self._problems_of(group) for group in self.groups)

    def _problems_of(self, group: int) -> int:
        """Return the number of problems for a group: one per pair of outer units."""
        outer = prod(self.pair.symmetry.shape(group)[:-1])
        return outer * outer

    def visit(self, permutations: Permutations) -> tuple[float, Permutations]:
        """Return the rise of the objective, and the permutations with the best choice for this coordinate.

        A rise within rounding is returned as 0.
        """
        self._update_grams(permutations)
        symmetry = self.pair.symmetry
        values = []
        for group, matrix in self.grams.items():
            values.append(total_gain(matrix, unit_map(symmetry, permutations, symmetry.path(group))))
        before = require_finite(sum(values))
        choice = choose_root(symmetry, self.grams, self.root, self.assigner)
        difference = choice.value - before
        rounding = torch.finfo(self.pair.dtype).eps * abs(before)
        rise = 0.0
        if difference > rounding:
            rise = difference
        return rise, choice.applied_to(permutations)

    def _update_grams(self, permutations: Permutations) -> None:
        """Update the Gram matrices to the current permutations of the neighbors."""
        if not self.terms:
            for block in self.blocks:
                ((group, own),) = innermost_groups(self.pair.symmetry, block, self.groups)
                self.terms.append((group, GramTerm(self.pair, block, own)))
        for group, term in self.terms:
            change = term.change(permutations)
            if change is None:
                continue
            if group in self.grams:
                self.grams[group] += change
            else:
                self.grams[group] = change.astype(np.float64)


class CoupledCoordinate(Coordinate):
    """Groups that permute several axes of one weight, such as both sides of a grouped convolution.

    The objective is not linear in these groups together. The assignments are therefore proposals, which are accepted if the
    objective rises: first for all groups together, from the weights that only one group permutes and then from all weights;
    then for one group at a time.
    """

    def __init__(self, pair: Pair, root: int, groups: Sequence[int], blocks: Sequence[Block]) -> None:
        super().__init__(pair, root, groups, blocks)
        self.neighbors |= set(groups)

    @property
    def problems(self) -> int:
        """The number of linear assignment problems that a visit solves: those of two proposals, and those of single groups."""
        single = sum(prod(self.pair.symmetry.shape(group)[:-1]) for group in self.groups)
        return 2 * super().problems + single

    def visit(self, permutations: Permutations) -> tuple[float, Permutations]:
        """Return the rise of the objective, and the permutations with the best of the proposals."""
        symmetry = self.pair.symmetry
        uncoupled = [block for block in self.blocks if len(innermost_groups(symmetry, block, self.groups)) == 1]
        proposals = [self._all_groups(uncoupled), self._all_groups(self.blocks)]
        proposals += [self._one_group(group) for group in self.groups]
        start = self.pair.value(self.blocks, permutations)
        value = start
        for propose in proposals:
            proposal = propose(permutations)
            proposed = self.pair.value(self.blocks, proposal)
            if proposed > value:
                value = proposed
                permutations = proposal
        return value - start, permutations

    def _all_groups(self, blocks: Sequence[Block]) -> Proposal:
        """Return a proposal that assigns all groups from the Gram matrices of some blocks."""

        def propose(permutations: Permutations) -> Permutations:
            grams: Grams = {}
            for block in blocks:
                for group, own in innermost_groups(self.pair.symmetry, block, self.groups):
                    grams[group] = grams.get(group, 0) + gram(self.pair, block, own, permutations)
            return choose_root(self.pair.symmetry, grams, self.root).applied_to(permutations)

        return propose

    def _one_group(self, group: int) -> Proposal:
        """Return a proposal that assigns one group while the other groups stay."""
        symmetry = self.pair.symmetry
        n = symmetry.groups[group].size
        outer = symmetry.groups[group].within
        terms: list[tuple[Block, list[int]]] = []
        for block in self.blocks:
            own_axes = [axis for axis, own in enumerate(block.groups) if own == group]
            terms += [(block, [*block_axes(block, outer), axis]) for axis in own_axes]

        def propose(permutations: Permutations) -> Permutations:
            total = np.sum([gram(self.pair, block, own, permutations) for block, own in terms], axis=0)
            best = permutations[group].clone()
            for position, unit in enumerate(unit_map(symmetry, permutations, outer).tolist()):
                gains = total[position * n : (position + 1) * n, unit * n : (unit + 1) * n]
                best.view(-1, n)[unit] = torch.from_numpy(assign(gains))
            return (*permutations[:group], best, *permutations[group + 1 :])

        return propose
