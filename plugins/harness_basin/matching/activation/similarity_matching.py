"""Match the units of several networks by given similarities of their units: one assignment per group, or a joint one.

For two networks the best permutations are found exactly: one linear assignment problem per group, nested for groups within
groups. For more, Σ_{i<j} Σ_groups tr(P_iᵀ C_ij P_j) is maximized by sweeps over the networks, as Multi-PCD does with weights;
groups that are not nested are independent. There is one start per network: all others, one after the other, are matched to
those that are already matched. The best result is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness_basin.matching.activation.activations import Pairs
from harness_basin.matching.coordinate_descent.descent import PROGRESS
from harness_basin.matching.coordinate_descent.nested_assignment import Grams, choose_root
from harness_basin.matching.symmetry import Permutations, Symmetry, compose, identity, inverse, unit_map


@dataclass(frozen=True)
class SimilarityMatching:
    """Permutations of every network; the first one's is the identity.

    `objective` is the sum of the similarities of matched units over all pairs of networks and all groups, and
    `identity_objective` that of the given networks. `assignments` is the number of linear assignment problems that were solved.
    """

    permutations: tuple[Permutations, ...]
    objective: float
    identity_objective: float
    assignments: int


def match_by_similarity(
    symmetry: Symmetry, pairs: Pairs, networks: int, *, unmoved: Collection[int] = (), max_rounds: int = 100
) -> SimilarityMatching:
    """Return the permutations that maximize the similarities of matched units, never worse than the identity.

    `pairs` has the similarities of every two networks by group. Groups of `unmoved`, and groups without similarities, are not
    permuted. Equal results are decided for the identity.
    """
    permutations = [identity(symmetry)] * networks
    objective = before = 0.0
    assignments = 0
    for root, group in enumerate(symmetry.groups):
        if group.within:
            continue
        problem = _RootProblem(symmetry, pairs, root)
        value = problem.value(permutations)
        before += value
        if problem.grouped and networks > 1 and not problem.groups & set(unmoved):
            found = problem.solve(permutations, max_rounds)
            assignments += problem.assignments
            if problem.value(found) > value + PROGRESS:
                permutations = found
        objective += problem.value(permutations)
    undo = inverse(symmetry, permutations[0])
    relative = tuple(compose(symmetry, own, undo) for own in permutations)
    return SimilarityMatching(relative, objective, before, assignments)


class _RootProblem:
    """The joint assignment of a group that is within no other, with the groups within it."""

    def __init__(self, symmetry: Symmetry, pairs: Pairs, root: int) -> None:
        self._symmetry = symmetry
        self._pairs = pairs
        self._root = root
        self.groups = {group for group in range(len(symmetry.groups)) if symmetry.path(group)[0] == root}
        first: Mapping[int, np.ndarray] = next(iter(pairs.values()), {})
        self.grouped = sorted(self.groups & set(first))
        self.assignments = 0

    def value(self, permutations: Sequence[Permutations]) -> float:
        """Return the sum of the similarities of matched units over all pairs."""
        total = 0.0
        for group in self.grouped:
            units = [self._units(own, group) for own in permutations]
            for i, j in combinations(range(len(permutations)), 2):
                total += float(self._pairs[i, j][group][units[i], units[j]].sum())
        return total

    def solve(self, start: Sequence[Permutations], max_rounds: int) -> list[Permutations]:
        """Return the best permutations found; only groups of this problem differ from `start`."""
        if len(start) == 2:
            return self._greedy(start, 0)
        best = list(start)
        for hub in range(len(start)):
            found = self._swept(self._greedy(start, hub), max_rounds)
            if self.value(found) > self.value(best) + PROGRESS:
                best = found
        return best

    def _greedy(self, start: Sequence[Permutations], hub: int) -> list[Permutations]:
        """Match one network after the other to all that are matched, starting with one."""
        permutations = list(start)
        matched = [hub]
        for network in range(len(start)):
            if network != hub:
                permutations[network] = self._matched(permutations, network, matched)
                matched.append(network)
        return permutations

    def _swept(self, permutations: list[Permutations], max_rounds: int) -> list[Permutations]:
        """Match every network to all others until none gains; the objective never falls."""
        networks = range(len(permutations))
        value = self.value(permutations)
        due = set(networks)  # a network is due again when another one has moved
        for network in [*networks] * max_rounds:
            if network not in due:
                continue
            due.discard(network)
            proposal = list(permutations)
            proposal[network] = self._matched(permutations, network, [other for other in networks if other != network])
            proposed = self.value(proposal)
            if proposed > value + PROGRESS:
                permutations = proposal
                value = proposed
                due |= set(networks) - {network}
        return permutations

    def _matched(self, permutations: Sequence[Permutations], network: int, others: Sequence[int]) -> Permutations:
        """Return the best permutations of a network while some others stay."""
        grams: Grams = {}
        for group in self.grouped:
            gram = np.zeros(self._between(others[0], network, group).shape)
            for other in others:
                gram += self._between(other, network, group)[self._units(permutations[other], group)]
            grams[group] = gram
        choice = choose_root(self._symmetry, grams, self._root)
        self.assignments += self._problems(self._root)
        return choice.applied_to(permutations[network])

    def _between(self, a: int, b: int, group: int) -> np.ndarray:
        """Return the similarities (units of a, units of b)."""
        if a < b:
            return self._pairs[a, b][group]
        return self._pairs[b, a][group].T

    def _units(self, permutations: Permutations, group: int) -> np.ndarray:
        """Return the unit at every position of a group, (units,)."""
        return unit_map(self._symmetry, permutations, self._symmetry.path(group)).flatten().numpy()

    def _problems(self, group: int) -> int:
        """Return the number of assignments that one nested assignment solves: inner ones for every pair of units."""
        path = self._symmetry.path(group)
        inner = 0
        for child, candidate in enumerate(self._symmetry.groups):
            if candidate.within == path:
                inner += self._problems(child)
        return 1 + self._symmetry.groups[group].size ** 2 * inner
