"""Find the best permutation of a group together with the best permutations of the groups within it, from Gram matrices.

The best inner permutations depend on the pair of outer units that is matched. They are computed for every pair of outer units,
and their gains are added to the outer group's gains. The result is therefore exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness_basin.matching.coordinate_descent.assignment import assign
from harness_basin.matching.symmetry import Permutations, Symmetry

Grams = dict[int, np.ndarray]
"""Gram matrices (units of a, units of b) by group. Units are numbered row-major through the outer groups."""

Solver = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """The best permutation of a group in one outer unit, and the best inner choices for every pair of its units.

    `unit` is the outer unit in the given weights. `value` is the sum of the gains, inner groups included. `inner[c][i][j]` is
    the choice of the c-th inner group if unit j moves to position i.
    """

    group: int
    unit: int
    value: float
    permutation: np.ndarray
    inner: Sequence[Sequence[Sequence[Choice]]]

    def applied_to(self, permutations: Permutations) -> Permutations:
        """Return a copy of the permutations that contains this choice."""
        result = [permutation.clone() for permutation in permutations]
        self._write(result)
        return tuple(result)

    def _write(self, permutations: list[Tensor]) -> None:
        permutations[self.group].view(-1, len(self.permutation))[self.unit] = torch.from_numpy(self.permutation)
        for table in self.inner:
            for i, j in enumerate(self.permutation):
                table[i][j]._write(permutations)


def choose_root(symmetry: Symmetry, grams: Grams, root: int, solve: Solver = assign) -> Choice:
    """Return the best permutation of a group that is within no other, with the best inner choices.

    `solve` assigns the group's own units. Groups without a Gram matrix have no gains of their own.
    """
    return _choose(symmetry, grams, root, 0, 0, solve)


def _choose(symmetry: Symmetry, grams: Grams, group: int, position: int, unit: int, solve: Solver) -> Choice:
    """Return the best choice for a group if the given outer unit moves to the given outer position."""
    n = symmetry.groups[group].size
    gains = np.zeros((n, n))
    if group in grams:
        gains = grams[group][position * n : (position + 1) * n, unit * n : (unit + 1) * n]
    inner = []
    for child in _children(symmetry, group):
        table = []
        values = np.empty((n, n))
        for i in range(n):
            row = [_choose(symmetry, grams, child, position * n + i, unit * n + j, assign) for j in range(n)]
            values[i] = [choice.value for choice in row]
            table.append(row)
        gains = gains + values
        inner.append(table)
    permutation = solve(gains)
    return Choice(group, unit, total_gain(gains, permutation), permutation, inner)


def _children(symmetry: Symmetry, group: int) -> list[int]:
    """Return the groups directly within a group."""
    path = symmetry.path(group)
    return [child for child, candidate in enumerate(symmetry.groups) if candidate.within == path]


def total_gain(gains: np.ndarray, permutation: np.ndarray | Tensor) -> float:
    """Return Σ_i gains[i, permutation[i]]."""
    return float(gains[np.arange(len(gains)), np.asarray(permutation)].sum())
