"""Permutation coordinate descent of a pair of networks: git-re-basin's weight matching (Ainsworth et al. 2023, algorithm 1).

Maximises ⟨θ_a, π θ_b⟩ over the permutations π of hidden units, one coordinate after another. It needs no data and no network,
only weights and their `Symmetry`. Single descents stick in poor optima; restarts help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from harness import StateDict, streams
from harness_basin.matching.coordinate import Coordinate, Pair, coordinates
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, random_permutations

Precision = Literal["float32", "float64"]

PROGRESS = 1e-12
"""By how much ⟨A, P⟩ has to rise for a sweep to count as progress: git-re-basin's number."""


@dataclass(frozen=True)
class Matching:
    """Permutations that bring one network's weights close to another's, and how they were found.

    `objective` is ⟨θ_a, π θ_b⟩ over the weights that permutations move; `trace` has it at the start and after every sweep, of
    every restart.
    """

    permutations: Permutations
    objective: float
    trace: tuple[tuple[float, ...], ...]

    @property
    def sweeps(self) -> int:
        """The number of sweeps in all restarts together."""
        return sum(len(objectives) - 1 for objectives in self.trace)


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
) -> Matching:
    """Return permutations of the other network's units that make its weights most like the reference's.

    Every sweep visits the coordinates in a fresh random order drawn from the stream; a sweep without progress is the last.
    The first descent begins at `start` (by default the identity), further ones at random permutations; the best is kept. Raise
    `Mismatch` for weights of another network.
    """
    dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
    pair = Pair(symmetry, symmetry.checked(reference, "reference"), symmetry.checked(other, "other"), dtype)
    starts = [start or identity(symmetry)]
    starts += [random_permutations(symmetry, streams.key("start", stream, restart)) for restart in range(1, restarts)]
    visited = coordinates(pair)
    found = [_descend(pair, visited, p, streams.key("descent", stream, k), max_sweeps) for k, p in enumerate(starts)]
    permutations, trace = max(found, key=lambda result: result[1][-1])
    return Matching(permutations, trace[-1], tuple(trace for _, trace in found))


def _descend(
    pair: Pair, visited: Sequence[Coordinate], permutations: Permutations, stream: int, max_sweeps: int
) -> tuple[Permutations, tuple[float, ...]]:
    """Sweep until a sweep makes no progress; return the permutations and the objective at the start and after every sweep.

    A coordinate whose neighbors have not moved since it was visited is where it would be put again: it is passed over.
    """
    for coordinate in visited:
        coordinate.restart()
    due = set(range(len(visited)))
    rises: list[float] = []
    for sweep in range(max_sweeps):
        rise, progress = 0.0, False
        for k in streams.permutation(streams.key("sweep", stream, sweep), len(visited)).tolist():
            if k not in due:
                continue
            due.discard(k)
            gain, now = visited[k].visit(permutations)
            moved = {g for g in visited[k].groups if not torch.equal(now[g], permutations[g])}
            due |= {j for j, other in enumerate(visited) if moved & other.neighbors}
            permutations, rise, progress = now, rise + gain, progress or gain > PROGRESS
        rises.append(rise)
        if not progress:
            break
    objective = pair.value([b for b in pair.symmetry.blocks if b.counts], permutations)
    return permutations, tuple(objective - sum(rises[i:]) for i in range(len(rises) + 1))
