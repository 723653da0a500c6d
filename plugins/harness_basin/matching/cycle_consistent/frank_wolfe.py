"""Cycle-consistent matching of an ensemble by Frank-Wolfe steps: C2M3 (Crisostomi et al. 2024).

Every member gets its own permutations into a common order of units (the *universe*), so that the maps between members,
P_ab = P_aᵀ P_b, compose to the identity around every cycle. The permutations are relaxed to doubly stochastic matrices. A step
moves all of them, by one step size, towards the permutations that maximize the linearized objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness import StateDict, streams
from harness_basin.matching.coordinate_descent.descent import DTYPES, Precision
from harness_basin.matching.coordinate_descent.gram import require_finite
from harness_basin.matching.coordinate_descent.joint import joint_objective, relative_to_first
from harness_basin.matching.cycle_consistent.line_search import maximize, rise
from harness_basin.matching.cycle_consistent.relaxation import Oracle, Point, between, dense, perturbed_uniform, vertex
from harness_basin.matching.cycle_consistent.relaxed_terms import Term, terms
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, permute

Start = Literal["identity", "uniform"]

PATIENCE = 5
"""The number of steps in a row that gain too little, after which the search ends."""


@dataclass(frozen=True)
class CycleConsistentMatching:
    """Permutations of every member, and how the relaxed search reached them.

    Objectives are Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩ over the weights that permutations move. `trace` contains the relaxed objective at
    the start and after every step; it never falls. `objective` is that of the permutations, `start_objective` that of the
    given weights. `assignments` is the number of linear assignment problems.
    """

    permutations: tuple[Permutations, ...]
    objective: float
    start_objective: float
    trace: tuple[float, ...]
    assignments: int

    @property
    def relaxed_objective(self) -> float:
        """The relaxed objective after the last step."""
        return self.trace[-1]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.trace) - 1


@dataclass(frozen=True)
class _Search:
    """The result of one search: a relaxed point, the trace of the relaxed objective, and the number of assignments."""

    permutations: Sequence[Permutations]
    objective: float
    trace: tuple[float, ...]
    assignments: int


def match_cycle_consistently(
    symmetry: Symmetry,
    states: Sequence[StateDict],
    *,
    stream: int,
    start: Start = "identity",
    restarts: int = 1,
    max_steps: int = 200,
    tolerance: float = 1e-6,
    precision: Precision = "float64",
) -> CycleConsistentMatching:
    """Return permutations of every member's units that align all members' weights to one another.

    A search starts at the identity, or at a point near the center of the relaxed permutations, drawn from the stream. It ends
    when the objective has gained less than `tolerance`, relative to its value, in `PATIENCE` steps in a row. The last point is
    rounded to the nearest permutations. `restarts` is the number of searches; the others than the first one start near the
    center, and the one with the best permutations is returned. Of two members, only the second one is moved. Of the equivalent
    results for more, return the one that leaves the first member unchanged. Raise `Mismatch` for weights of another network,
    and `TaskFailed` for weights that are not finite.
    """
    weights = [symmetry.checked(state, f"member {i}") for i, state in enumerate(states)]
    if len(states) < 2:
        return CycleConsistentMatching(tuple(identity(symmetry) for _ in states), 0.0, 0.0, (0.0,), 0)
    dtype = DTYPES[precision]
    moved = 1 if len(states) == 2 else len(states)
    objective = Objective(symmetry, terms(symmetry, weights, dtype))
    given = vertex(symmetry, [identity(symmetry)] * moved)
    searches = []
    for number in range(restarts):
        point = given
        if number or start == "uniform":
            point = perturbed_uniform(symmetry, moved, streams.key("start", stream, number), dtype)
        searches.append(_search(objective, Oracle(symmetry, moved), point, max_steps, tolerance))
    best = max(searches, key=lambda search: search.objective)
    found = [*[identity(symmetry)] * (len(states) - moved), *best.permutations]
    return CycleConsistentMatching(
        relative_to_first(symmetry, found),
        joint_objective(symmetry, [permute(symmetry, own, state) for own, state in zip(found, weights, strict=True)]),
        joint_objective(symmetry, weights),
        best.trace,
        sum(search.assignments for search in searches),
    )


class Objective:
    """The objective at relaxed points, its gradient, and its exact maximum on a line."""

    def __init__(self, symmetry: Symmetry, parts: Sequence[Term]) -> None:
        self.symmetry = symmetry
        self.parts = parts
        self.dtype = parts[0].dtype if parts else torch.float64
        self.degree = max((part.degree for part in parts), default=1)

    def value(self, point: Point) -> float:
        """Return the objective at a point. Raise `TaskFailed` if it is not finite."""
        return require_finite(sum(part.value(point) for part in self.parts))

    def linearized(self, point: Point) -> tuple[float, list[Tensor]]:
        """Return the objective at a point, and its gradient by every group's matrices, (members, units, units) each.

        Raise `TaskFailed` if the objective is not finite.
        """
        value = 0.0
        found: dict[int, Tensor] = {}
        for part in self.parts:
            own_value, gains = part.linearized(point)
            value += own_value
            for group, gain in gains:
                found[group] = found[group] + gain if group in found else gain
        members = len(point[0]) if point else 0
        for group in range(len(point)):
            units = math.prod(self.symmetry.shape(group))
            found.setdefault(group, torch.zeros(members, units, units, dtype=self.dtype))
        return require_finite(value), [found[group] for group in range(len(point))]

    def best_between(self, start: Point, end: Point, value: float, gradient: Sequence[Tensor]) -> Point:
        """Return the best point on the way from a point, with its value and gradient, to another point."""
        slope = 0.0
        for a, b, own in zip(start, end, gradient, strict=True):
            slope += float((own * (dense(b, self.dtype) - dense(a, self.dtype))).sum(dtype=torch.float64))

        def on_the_way(share: float) -> Point:
            if share == 1.0:
                return end
            return between(start, end, share, self.dtype)

        share = maximize(rise(lambda share: self.value(on_the_way(share)), value, slope, self.degree))
        if share == 0.0:
            return start
        return on_the_way(share)


def _search(objective: Objective, oracle: Oracle, point: Point, max_steps: int, tolerance: float) -> _Search:
    """Step towards the permutations that the gradient favors until steps gain too little, and round the last point."""
    value, gradient = objective.linearized(point)
    trace = [value]
    idle = 0
    while point and len(trace) <= max_steps and idle < PATIENCE:
        target = vertex(objective.symmetry, oracle.best(gradient))
        reached = objective.best_between(point, target, trace[-1], gradient)
        if reached is point:
            break
        point = reached
        value, gradient = objective.linearized(point)
        trace.append(value)
        idle = idle + 1 if trace[-1] - trace[-2] < tolerance * abs(trace[-2]) else 0
    found = oracle.best([dense(entry, torch.float64) for entry in point])
    return _Search(found, objective.value(vertex(objective.symmetry, found)), tuple(trace), oracle.assignments)
