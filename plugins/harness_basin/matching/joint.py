"""Multi-PCD: permutation coordinate descent of a whole ensemble (paper, appendix A; git-re-basin's MergeMany, unmerged).

Maximises Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩. A step matches one member to the mean of the others as they are permuted now, starting
from the permutations it has now, so the objective never falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from harness import StateDict, streams
from harness_basin.matching.descent import PROGRESS, Precision, match
from harness_basin.matching.symmetry import Permutations, Symmetry, compose, identity, inverse, permute


@dataclass(frozen=True)
class JointMatching:
    """Permutations of every member, and how they were found.

    `objective` is Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩ over the weights that permutations move; `trace` has it at the start and after
    every round over the members.
    """

    permutations: tuple[Permutations, ...]
    objective: float
    trace: tuple[float, ...]


def match_jointly(
    symmetry: Symmetry,
    states: Sequence[StateDict],
    *,
    stream: int,
    max_sweeps: int = 100,
    max_rounds: int = 100,
    precision: Precision = "float64",
) -> JointMatching:
    """Return permutations of every member's units that make all members' weights most alike.

    Every round visits the members in a fresh random order drawn from the stream, until none moves. Permuting all members alike
    changes nothing; of the equivalent results, the one that leaves the first member as it is is returned.
    """
    weights = [symmetry.checked(state, f"member {i}") for i, state in enumerate(states)]
    found = [identity(symmetry) for _ in states]
    if len(states) < 2:
        return JointMatching(tuple(found), 0.0, (0.0,))
    placed = list(weights)
    trace = [_objective(symmetry, placed)]
    due = set(range(len(states)))
    for round_ in range(max_rounds):
        for i in streams.permutation(streams.key("round", stream, round_), len(states)).tolist():
            if i not in due:
                continue
            due.discard(i)
            key = streams.key("member", stream, round_, i)
            others = _mean([state for j, state in enumerate(placed) if j != i])
            step = match(symmetry, others, weights[i], stream=key, start=found[i], max_sweeps=max_sweeps, precision=precision)
            if step.objective - step.trace[0][0] > PROGRESS:
                found[i], placed[i] = step.permutations, permute(symmetry, step.permutations, weights[i])
                due |= set(range(len(states))) - {i}
        trace.append(_objective(symmetry, placed))
        if not due:
            break
    undo = inverse(symmetry, found[0])
    return JointMatching(tuple(compose(symmetry, p, undo) for p in found), trace[-1], tuple(trace))


def _mean(states: Sequence[StateDict]) -> StateDict:
    return {name: torch.stack([state[name] for state in states]).mean(0, dtype=torch.float64) for name in states[0]}


def _objective(symmetry: Symmetry, states: Sequence[StateDict]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩ = |Σ_i θ_i|² - Σ_i |θ_i|² over the weights that permutations move."""
    total = 0.0
    for block in symmetry.blocks:
        if block.counts:
            members = torch.stack([block.view(state[block.parameter]).double().flatten() for state in states])
            total += float(members.sum(0).square().sum() - members.square().sum())
    return total
