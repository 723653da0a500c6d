"""Permutation coordinate descent of a pair of networks: weight matching (Ainsworth et al. 2023, Git Re-Basin, algorithm 1).

It maximizes ⟨θ_a, π θ_b⟩ over the permutations π of hidden units, one coordinate at a time. It needs the weights and their
`Symmetry`, but neither data nor the network. A single descent may end in a poor local optimum; restarts help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from harness import StateDict, streams
from harness_basin.matching.coordinate_descent.coordinate import Coordinate, coordinates
from harness_basin.matching.coordinate_descent.gram import Pair
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, random_permutations

Precision = Literal["float32", "float64"]

PROGRESS = 1e-12
"""The smallest rise of ⟨A, P⟩ that counts as progress: the threshold of Git Re-Basin's implementation."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Matching:
    """Permutations that align one network's weights to another's.

    `objective` is ⟨θ_a, π θ_b⟩ over the weights that permutations move. `trace` contains, per descent, the objective at the
    start and after every sweep. `assignments` is the number of linear assignment problems that were solved.
    """

    permutations: Permutations
    objective: float
    trace: tuple[tuple[float, ...], ...]
    assignments: int = 0

    @property
    def sweeps(self) -> int:
        """The total number of sweeps of all descents."""
        return sum(len(objectives) - 1 for objectives in self.trace)


@dataclass(frozen=True)
class Descent:
    """The result of one descent: the permutations, the rise of the objective in every sweep, and the assignments solved."""

    permutations: Permutations
    rises: tuple[float, ...]
    assignments: int

    def trace(self, pair: Pair) -> tuple[float, ...]:
        """Return the objective at the start and after every sweep."""
        counted = [block for block in pair.symmetry.blocks if block.counts]
        objective = pair.value(counted, self.permutations)
        return tuple(objective - sum(self.rises[i:]) for i in range(len(self.rises) + 1))


def match(
    symmetry: Symmetry,
    reference: StateDict,
    other: StateDict,
    *,
    stream: int,
    restarts: int = 1,
    max_sweeps: int = 100,
    start: Permutations | None = None,
    precision: Precision = "float64",
    low_memory: bool = False,
) -> Matching:
    """Return permutations of the other network's units that align its weights to the reference's.

    Every sweep visits the coordinates in a new random order drawn from the stream. A sweep without progress is the last one.
    The first descent starts at `start` (default: the identity), further ones at random permutations; the best result is
    returned. `restarts` is the number of descents. With `low_memory`, no arranged copies of the weights are kept: a fifth
    of the memory, some more time, the same result. Raise `Mismatch` for weights of another network, and `TaskFailed` for
    weights that are not finite.
    """
    own, others = symmetry.checked(reference, "reference"), symmetry.checked(other, "other")
    pair = Pair(symmetry, own, others, DTYPES[precision], keeps_arranged=not low_memory)
    starts = [start or identity(symmetry)]
    for restart in range(1, restarts):
        starts.append(random_permutations(symmetry, streams.key("start", stream, restart)))
    visited = coordinates(pair)
    descents = []
    for number, initial in enumerate(starts):
        for coordinate in visited:
            coordinate.restart()
        descents.append(descend(visited, initial, streams.key("descent", stream, number), max_sweeps))
    traces = tuple(descent.trace(pair) for descent in descents)
    best = max(range(len(traces)), key=lambda number: traces[number][-1])
    assignments = sum(descent.assignments for descent in descents)
    return Matching(descents[best].permutations, traces[best][-1], traces, assignments)


def descend(visited: Sequence[Coordinate], permutations: Permutations, stream: int, max_sweeps: int) -> Descent:
    """Sweep over the coordinates until a sweep makes no progress.

    A coordinate is skipped if no neighbor has moved since its last visit, because another visit would change nothing.
    """
    due = set(range(len(visited)))
    rises: list[float] = []
    assignments = 0
    for sweep in range(max_sweeps):
        rise = 0.0
        progress = False
        for k in streams.permutation(streams.key("sweep", stream, sweep), len(visited)).tolist():
            if k not in due:
                continue
            due.discard(k)
            gain, updated = visited[k].visit(permutations)
            assignments += visited[k].problems
            due |= _affected(visited, visited[k], permutations, updated)
            permutations = updated
            rise += gain
            progress = progress or gain > PROGRESS
        rises.append(rise)
        if not progress:
            break
    return Descent(permutations, tuple(rises), assignments)


def _affected(visited: Sequence[Coordinate], coordinate: Coordinate, before: Permutations, after: Permutations) -> set[int]:
    """Return the numbers of the coordinates that have a neighbor among the groups of a coordinate that moved."""
    moved = {group for group in coordinate.groups if not torch.equal(after[group], before[group])}
    return {number for number, other in enumerate(visited) if moved & other.neighbors}
