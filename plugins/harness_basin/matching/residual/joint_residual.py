"""Weight matching of all members of an ensemble of residual networks in normal form.

The first visits match every member to the first one. After them, as in Multi-PCD, a visit matches one member to the mean of
the others, by one sweep: Σ_{i<j} ‖g_i θ_i - g_j θ_j‖² never rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import streams
from harness_basin.matching.residual.moves import Arrays, Move
from harness_basin.matching.residual.residual_groups import ResidualGroups
from harness_basin.matching.residual.residual_matching import Maps, ResidualMatching, match_residual
from harness_basin.matching.symmetry import Block

ROUND_PROGRESS = 1e-6
"""A round that lowers the distance by less than this share of it is the last one."""


@dataclass(frozen=True)
class JointResidualMatching:
    """The aligned members' blocks, the first member's unchanged.

    `distance` is Σ_{i<j} ‖θ_i - θ_j‖² over the weights that count, and `unmatched_distance` that of the given members. `traces`
    are the distances after every move of the matchings to the first member, and `rounds` the total before and after each round.
    """

    members: tuple[Arrays, ...]
    distance: float
    unmatched_distance: float
    traces: tuple[tuple[float, ...], ...]
    rounds: tuple[float, ...]
    assignments: int


def match_residual_jointly(
    groups: ResidualGroups, members: Sequence[Arrays], *, sweeps: int, maps: Maps, stream: int
) -> JointResidualMatching:
    """Return all members aligned to one another; members are blocks of weights in normal form.

    There are at most `sweeps` sweeps per pair, and as many rounds over the members. Every round visits them in a new random
    order drawn from the stream. Of equivalent results, return the one that
    does not move the first member. The result is never farther apart than the given members. Raise `TaskFailed` for weights
    that are not finite.
    """
    unmatched = total_distance(groups, members)
    moved = [dict(members[0])]
    traces = []
    assignments = 0
    for member in members[1:]:
        matching = match_residual(groups, members[0], member, sweeps=sweeps, maps=maps)
        moved.append(matching.arrays)
        traces.append(tuple(matching.trace))
        assignments += matching.assignments
    rounds = [total_distance(groups, moved)]
    first_moves: list[Move] = []
    while len(members) > 2 and len(rounds) <= sweeps:
        key = streams.key("round", stream, len(rounds))
        for i in streams.permutation(key, len(members)).tolist():
            # The first member's moves are undone on all members in the end, which keeps distances if the moves are orthogonal.
            step = _visit(groups, moved, i, maps if i else "orthogonal")
            moved[i] = step.arrays
            assignments += step.assignments
            if i == 0:
                first_moves += step.moves
        rounds.append(total_distance(groups, moved))
        if rounds[-2] - rounds[-1] <= ROUND_PROGRESS * rounds[-2]:
            break
    aligned = _relative_to_first(members[0], moved, first_moves)
    distance = total_distance(groups, aligned)
    if distance > unmatched:
        aligned, distance = [dict(member) for member in members], unmatched
    return JointResidualMatching(tuple(aligned), distance, unmatched, tuple(traces), tuple(rounds), assignments)


def _visit(groups: ResidualGroups, members: Sequence[Arrays], i: int, maps: Maps) -> ResidualMatching:
    """Match a member to the mean of the others, from where it is."""
    others = [member for j, member in enumerate(members) if j != i]
    mean = {block: torch.stack([other[block] for other in others]).mean(0) for block in members[i]}
    matching = ResidualMatching(groups, mean, members[i], maps)
    matching.sweep()
    return matching


def _relative_to_first(first: Arrays, members: Sequence[Arrays], moves: Sequence[Move]) -> list[Arrays]:
    """Undo the first member's moves on all members."""
    result = [dict(first)]
    for member in members[1:]:
        arrays = dict(member)
        for move in reversed(moves):
            arrays.update(move.inverse().apply(arrays))
        result.append(arrays)
    return result


def total_distance(groups: ResidualGroups, members: Sequence[Mapping[Block, Tensor]]) -> float:
    """Return Σ_{i<j} ‖θ_i - θ_j‖² = M Σ_i ‖θ_i - mean‖² over the counted blocks."""
    total = 0.0
    for block in groups.counted:
        stacked = torch.stack([member[block] for member in members])
        total += len(members) * float((stacked - stacked.mean(0)).square().sum())
    return total


def total_objective(groups: ResidualGroups, members: Sequence[Mapping[Block, Tensor]]) -> float:
    """Return Σ_{i≠j} ⟨θ_i, θ_j⟩ over the counted blocks."""
    total = 0.0
    for block in groups.counted:
        stacked = torch.stack([member[block] for member in members])
        total += float(stacked.sum(0).square().sum() - stacked.square().sum())
    return total
