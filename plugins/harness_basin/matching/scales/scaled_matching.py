"""Align a network to another one by positive scales of its hidden units, alone or together with permutations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from harness import StateDict, streams
from harness_basin.matching.coordinate_descent.assignment import counted_assignments
from harness_basin.matching.coordinate_descent.descent import match
from harness_basin.matching.linear.linear_groups import LinearGroup, act, inverse_elements
from harness_basin.matching.scales.scaling import align_scales
from harness_basin.matching.symmetry import Symmetry, permute

PROGRESS = 1e-9
"""The smallest relative fall of the squared distance in a round that is followed by another round."""


@dataclass(frozen=True)
class ScaledMatching:
    """A network that was moved towards another one.

    `state` has the weights in float64, `distance` is their L2 distance to the reference, `distance_before` that of the given
    weights. `trace` has one list per descent: the squared distance at its start, and after every matching and every sweep of
    scales.
    """

    state: StateDict
    distance_before: float
    distance: float
    trace: tuple[tuple[float, ...], ...]
    sweeps: int
    assignments: int


@dataclass(frozen=True)
class _Problem:
    """What a descent needs besides the weights from which it starts."""

    symmetry: Symmetry
    groups: Sequence[LinearGroup]
    reference: StateDict
    counted: frozenset[str]
    stream: int
    max_sweeps: int

    def distance(self, state: StateDict) -> float:
        """Return the squared distance of the weights that count."""
        return squared_distance(self.reference, state, self.counted)


def match_scales(
    symmetry: Symmetry,
    groups: Sequence[LinearGroup],
    reference: StateDict,
    other: StateDict,
    counted: Iterable[str],
    *,
    stream: int,
    permutations: bool = False,
    max_sweeps: int = 1000,
) -> ScaledMatching:
    """Return the other network with the scales that bring it closest to the reference in L2, as far as the descent finds them.

    `groups` are groups of scales; `counted` names the weights that count. With `permutations`, two descents alternate weight
    matching and scaling as long as the distance falls: one from the given weights, one from the matching of both networks'
    balanced forms. The better result is returned. The distance is never larger than at the start of the first descent. Raise
    `Mismatch` for weights of another network, and `TaskFailed` for weights that are not finite.
    """
    symmetry.checked(reference, "reference")
    symmetry.checked(other, "other")
    problem = _Problem(symmetry, groups, _exact(reference), frozenset(counted), stream, max_sweeps)
    start = _exact(other)
    with counted_assignments() as assignments:
        if permutations:
            descents = [_alternate(problem, start), _alternate(problem, _balanced_match(problem, start))]
        else:
            descents = [_scaled(problem, start)]
    state = min((moved for moved, _ in descents), key=problem.distance)
    traces = tuple(tuple(trace) for _, trace in descents)
    sweeps = sum(len(own) - 1 for own in traces)
    before = problem.distance(start) ** 0.5
    return ScaledMatching(state, before, problem.distance(state) ** 0.5, traces, sweeps, assignments[0])


def squared_distance(x: StateDict, y: StateDict, counted: Iterable[str]) -> float:
    """Return the squared L2 distance of the named weights, in float64."""
    return sum(float((x[name].double() - y[name].double()).square().sum()) for name in counted)


def balanced(groups: Sequence[LinearGroup], state: StateDict, counted: frozenset[str], max_sweeps: int) -> StateDict:
    """Return the equivalent weights with the least L2 norm. They do not depend on the scales of the given ones."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    return act(groups, align_scales(groups, zeros, state, counted, max_sweeps=max_sweeps).elements, state)


def _exact(state: StateDict) -> StateDict:
    """Return weights in float64."""
    return {name: tensor.detach().double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _scaled(problem: _Problem, state: StateDict) -> tuple[StateDict, list[float]]:
    """Return scaled weights, and the squared distance at the start and after every sweep."""
    found = align_scales(problem.groups, problem.reference, state, problem.counted, max_sweeps=problem.max_sweeps)
    unmoved = max(problem.distance(state) - found.trace[0], 0.0)
    return act(problem.groups, found.elements, state), [unmoved + distance for distance in found.trace]


def _alternate(problem: _Problem, state: StateDict) -> tuple[StateDict, list[float]]:
    """Match and scale in turn while the squared distance falls; return the weights and the trace.

    At fixed scales the norm does not depend on the permutation. Weight matching therefore lowers the distance.
    """
    trace = [problem.distance(state)]
    best = trace[0]
    for number in range(problem.max_sweeps):
        stream = streams.key("round", problem.stream, number)
        permutations = match(problem.symmetry, problem.reference, state, stream=stream).permutations
        matched = permute(problem.symmetry, permutations, state)
        scaled, distances = _scaled(problem, matched)
        after = problem.distance(scaled)
        if not after < best:
            break
        trace += [min(trace[-1], distance) for distance in distances]
        state = scaled
        fall = best - after
        best = after
        if fall <= PROGRESS * best:
            break
    return state, trace


def _balanced_match(problem: _Problem, state: StateDict) -> StateDict:
    """Return the weights, permuted as the matching of the balanced forms says, with the scales of the reference."""
    zeros = {name: torch.zeros_like(tensor) for name, tensor in problem.reference.items()}
    of_reference = align_scales(problem.groups, zeros, problem.reference, problem.counted, max_sweeps=problem.max_sweeps)
    reference = act(problem.groups, of_reference.elements, problem.reference)
    other = balanced(problem.groups, state, problem.counted, problem.max_sweeps)
    found = match(problem.symmetry, reference, other, stream=streams.key("balanced", problem.stream))
    permuted = permute(problem.symmetry, found.permutations, other)
    return act(problem.groups, inverse_elements(problem.groups, of_reference.elements), permuted)
