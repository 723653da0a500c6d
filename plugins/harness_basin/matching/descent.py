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
from harness_basin.matching.coordinate import Coordinate, coordinates
from harness_basin.matching.gram import Pair
from harness_basin.matching.symmetry import Permutations, Symmetry, identity, random_permutations

Precision = Literal["float32", "float64"]

PROGRESS = 1e-12
"""The smallest rise of ⟨A, P⟩ that counts as progress: the threshold of Git Re-Basin's implementation."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Matching:
    """Permutations that align one network's weights to another's.

    `objective` is ⟨θ_a, π θ_b⟩ over the weights that permutations move. `trace` contains, per descent, the objective at the
    start and after every sweep.
    """

    permutations: Permutations
    objective: float
    trace: tuple[tuple[float, ...], ...]

    @property
    def sweeps(self) -> int:
        """The total number of sweeps of all descents."""
        return sum(len(objectives) - 1 for objectives in self.trace)


@dataclass(frozen=True)
class _Descent:
    """The result of one descent: the permutations, and the objective at the start and after every sweep."""

    permutations: Permutations
    trace: tuple[float, ...]


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
    """Return permutations of the other network's units that align its weights to the reference's.

    Every sweep visits the coordinates in a new random order drawn from the stream. A sweep without progress is the last one.
    The first descent starts at `start` (default: the identity), further ones at random permutations; the best result is
    returned. `restarts` is the number of descents. Raise `Mismatch` for weights of another network, and `TaskFailed` for
    weights that are not finite.
    """
    pair = Pair(symmetry, symmetry.checked(reference, "reference"), symmetry.checked(other, "other"), DTYPES[precision])
    starts = [start or identity(symmetry)]
    for restart in range(1, restarts):
        starts.append(random_permutations(symmetry, streams.key("start", stream, restart)))
    visited = coordinates(pair)
    descents = []
    for number, initial in enumerate(starts):
        descents.append(_descend(pair, visited, initial, streams.key("descent", stream, number), max_sweeps))
    best = max(descents, key=lambda descent: descent.trace[-1])
    return Matching(best.permutations, best.trace[-1], tuple(descent.trace for descent in descents))


def _descend(pair: Pair, visited: Sequence[Coordinate], permutations: Permutations, stream: int, max_sweeps: int) -> _Descent:
    """Sweep over the coordinates until a sweep makes no progress.

    A coordinate is skipped if no neighbor has moved since its last visit, because another visit would change nothing.
    """
    for coordinate in visited:
        coordinate.restart()
    due = set(range(len(visited)))
    rises: list[float] = []
    for sweep in range(max_sweeps):
        rise = 0.0
        progress = False
        for k in streams.permutation(streams.key("sweep", stream, sweep), len(visited)).tolist():
            if k not in due:
                continue
            due.discard(k)
            gain, updated = visited[k].visit(permutations)
            due |= _affected(visited, visited[k], permutations, updated)
            permutations = updated
            rise += gain
            progress = progress or gain > PROGRESS
        rises.append(rise)
        if not progress:
            break
    objective = pair.value([block for block in pair.symmetry.blocks if block.counts], permutations)
    return _Descent(permutations, tuple(objective - sum(rises[i:]) for i in range(len(rises) + 1)))


def _affected(visited: Sequence[Coordinate], coordinate: Coordinate, before: Permutations, after: Permutations) -> set[int]:
    """Return the numbers of the coordinates that have a neighbor among the groups of a coordinate that moved."""
    moved = {group for group in coordinate.groups if not torch.equal(after[group], before[group])}
    return {number for number, other in enumerate(visited) if moved & other.neighbors}
