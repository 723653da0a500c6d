"""Relaxed permutations of several members' units: points of the convex hulls of a network's permutations.

A *relaxed point* holds, for every group, one matrix per moved member. Rows are positions, columns are units of the given
weights, both numbered row-major through the outer groups. For a group within others (dimensions within heads), the matrix is
in the hull of the nested permutations: it has heads · dimensions rows and columns, and the block of a pair of heads sums, per
row and column, to the pair's entry in the heads' matrix. Nested linear assignments maximize linear functions on such a hull
exactly.

A group's entry is a float tensor (members, units, units), or an int64 tensor (members, units) where all members are permuted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness import streams
from harness_basin.matching.coordinate_descent.assignment import Assigner
from harness_basin.matching.coordinate_descent.nested_assignment import choose_root
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, unit_map

Point = tuple[Tensor, ...]

SINKHORN_ROUNDS = 50
"""Normalizations of rows and columns of a random start."""


def vertex(symmetry: Symmetry, permutations: Sequence[Permutations]) -> Point:
    """Return the point at given permutations of every member."""
    entries = []
    for group in range(len(symmetry.groups)):
        path = symmetry.path(group)
        entries.append(torch.stack([unit_map(symmetry, own, path) for own in permutations]))
    return tuple(entries)


def dense(entry: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a group's entry as matrices (members, units, units)."""
    if entry.is_floating_point():
        return entry
    return torch.nn.functional.one_hot(entry, entry.shape[1]).to(dtype)


def between(start: Point, end: Point, share: float, dtype: torch.dtype) -> Point:
    """Return start + share · (end - start)."""
    return tuple(torch.lerp(dense(a, dtype), dense(b, dtype), share) for a, b in zip(start, end, strict=True))


def perturbed_uniform(symmetry: Symmetry, members: int, stream: int, dtype: torch.dtype) -> Point:
    """Return a point near the center of the hulls, drawn from a stream.

    Every matrix is 1 + u with uniform u in [0, 1), normalized by Sinkhorn's iteration. Matrices of inner groups are drawn for
    every pair of outer units, and weighted by the pair's entry.
    """
    entries: list[Tensor] = []
    for g in range(len(symmetry.groups)):
        path = symmetry.path(g)
        found = torch.ones(members, 1, 1, dtype=torch.float64)
        for depth in range(len(path)):
            found = _refined(found, symmetry.groups[path[depth]].size, streams.key("relaxed", stream, *path[: depth + 1]))
        entries.append(found.to(dtype))
    return tuple(entries)


def _refined(outer: Tensor, size: int, key: int) -> Tensor:
    """Return matrices (members, units · size, units · size): every entry of `outer` times a random doubly stochastic matrix."""
    members, units, _ = outer.shape
    shape = (members, units, units, size, size)
    raw = 1 + streams.uniform(key, torch.arange(math.prod(shape))).double().reshape(shape)
    for _ in range(SINKHORN_ROUNDS):
        raw = raw / raw.sum(-1, keepdim=True)
        raw = raw / raw.sum(-2, keepdim=True)
    weighted = outer[..., None, None] * raw
    return weighted.permute(0, 1, 3, 2, 4).reshape(members, units * size, units * size)


class Oracle:
    """Finds the permutations of every member that maximize a linear function of the point."""

    def __init__(self, symmetry: Symmetry, members: int) -> None:
        self.symmetry = symmetry
        self.assignments = 0
        self._roots = [g for g, group in enumerate(symmetry.groups) if not group.within]
        self._solvers = [{root: Assigner() for root in self._roots} for _ in range(members)]

    def best(self, gains: Sequence[Tensor]) -> list[Permutations]:
        """Return every member's permutations; gains are one tensor (members, units, units) per group."""
        matrices = [gain.double().numpy() for gain in gains]
        return [self._best_of_member(member, matrices) for member in range(len(self._solvers))]

    def _best_of_member(self, member: int, matrices: Sequence[np.ndarray]) -> Permutations:
        found = identity(self.symmetry)
        grams = {g: matrix[member] for g, matrix in enumerate(matrices)}
        for root in self._roots:
            found = choose_root(self.symmetry, grams, root, self._solvers[member][root]).applied_to(found)
        for g in range(len(self.symmetry.groups)):
            self.assignments += math.prod(self.symmetry.shape(g)[:-1]) ** 2
        return found
