"""Multi-PCD: permutation coordinate descent of a whole ensemble (Lion et al. 2024, appendix A).

This is MergeMany of Git Re-Basin (Ainsworth et al. 2023) without the merge. It maximizes
Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩. A step matches one member to the mean of the other permuted members. It starts at the member's
current permutations, so the objective never falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from harness import StateDict, streams
from harness_basin.matching.coordinate_descent.descent import PROGRESS, Precision, match
from harness_basin.matching.symmetry import Permutations, Symmetry, compose, identity, inverse, permute, random_permutations


@dataclass(frozen=True)
class JointMatching:
    """Permutations of every member.

    `objective` is Σ_{i≠j} ⟨π_i θ_i, π_j θ_j⟩ over the weights that permutations move. `trace` contains it at the start of the
    best descent and after every round over the members. `assignments` is the number of linear assignment problems that all
    descents solved.
    """

    permutations: tuple[Permutations, ...]
    objective: float
    trace: tuple[float, ...]
    assignments: int = 0


def match_jointly(
    symmetry: Symmetry,
    states: Sequence[StateDict],
    *,
    stream: int,
    restarts: int = 1,
    start: Sequence[Permutations] | None = None,
    max_sweeps: int = 100,
    max_rounds: int = 100,
    precision: Precision = "float64",
) -> JointMatching:
    """Return permutations of every member's units that align all members' weights to one another.

    Every round visits the members in a new random order drawn from the stream, until no member moves. A permutation that all
    members share does not change the objective. Of the equivalent results, return the one that leaves the first member
    unchanged. `restarts` is the number of descents. The first one starts at `start` (default: the identity), further ones at
    random permutations of every member; the best result is returned. Raise `Mismatch` for weights of another network, and
    `TaskFailed` for weights that are not finite.
    """
    weights = [symmetry.checked(state, f"member {i}") for i, state in enumerate(states)]
    initial = list(start or [identity(symmetry) for _ in states])
    if len(states) < 2:
        return JointMatching(relative_to_first(symmetry, initial), 0.0, (0.0,))
    settings = _Settings(max_sweeps, max_rounds, precision)
    best = _descend(symmetry, weights, initial, stream, settings)
    for restart in range(1, restarts):
        key = streams.key("joint start", stream, restart)
        initial = [random_permutations(symmetry, streams.key("member", key, i)) for i in range(len(states))]
        found = _descend(symmetry, weights, initial, key, settings)
        assignments = best.assignments + found.assignments
        best = replace(max(best, found, key=lambda matching: matching.objective), assignments=assignments)
    return best


@dataclass(frozen=True)
class _Settings:
    """When descents end, and the precision of products."""

    max_sweeps: int
    max_rounds: int
    precision: Precision


def _descend(
    symmetry: Symmetry, weights: Sequence[StateDict], found: list[Permutations], stream: int, settings: _Settings
) -> JointMatching:
    """Match members to the others, from given permutations on, until no member moves."""
    permuted = [permute(symmetry, permutations, state) for permutations, state in zip(found, weights, strict=True)]
    trace = [joint_objective(symmetry, permuted)]
    due = set(range(len(weights)))
    assignments = 0
    for round_number in range(settings.max_rounds):
        for i in streams.permutation(streams.key("round", stream, round_number), len(weights)).tolist():
            if i not in due:
                continue
            due.discard(i)
            step = match(
                symmetry,
                _mean([state for j, state in enumerate(permuted) if j != i]),
                weights[i],
                stream=streams.key("member", stream, round_number, i),
                start=found[i],
                max_sweeps=settings.max_sweeps,
                precision=settings.precision,
                low_memory=True,
            )
            assignments += step.assignments
            if step.objective - step.trace[0][0] > PROGRESS:
                found[i] = step.permutations
                permuted[i] = permute(symmetry, step.permutations, weights[i])
                due |= set(range(len(weights))) - {i}
        trace.append(joint_objective(symmetry, permuted))
        if not due:
            break
    return JointMatching(relative_to_first(symmetry, found), trace[-1], tuple(trace), assignments)


def relative_to_first(symmetry: Symmetry, found: Sequence[Permutations]) -> tuple[Permutations, ...]:
    """Return the equivalent permutations that leave the first member unchanged."""
    if not found:
        return ()
    undo = inverse(symmetry, found[0])
    return tuple(compose(symmetry, permutations, undo) for permutations in found)


def _mean(states: Sequence[StateDict]) -> StateDict:
    """Return the mean of weights, in float64."""
    result = {}
    for name in states[0]:
        result[name] = torch.stack([state[name] for state in states]).mean(0, dtype=torch.float64)
    return result


def joint_objective(symmetry: Symmetry, states: Sequence[StateDict]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩ = |Σ_i θ_i|² - Σ_i |θ_i|² over the weights that permutations move."""
    total = 0.0
    for block in symmetry.blocks:
        if block.counts:
            members = torch.stack([block.view(state[block.parameter]).double().flatten() for state in states])
            total += float(members.sum(0).square_().sum() - members.square_().sum())
    return total
