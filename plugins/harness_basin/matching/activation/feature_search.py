"""The search for the place of a group's units in a recorded run: all candidates, and the choice among them.

`features` says which choice is made and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from harness_basin.matching.activation.dataflow import MOVES, DataFlow, base_name
from harness_basin.matching.blocks import blocks_of_activation
from harness_basin.matching.rules import contractions
from harness_basin.matching.rules.operations import Operation
from harness_basin.matching.symmetry import Block, Symmetry
from harness_basin.matching.tracing import Recording

_FLAT = {"relu", "hardtanh", "clamp", "clamp_min", "threshold", "hardswish", "hardsigmoid"}
"""Activation functions that are constant on a part of the line."""


@dataclass(frozen=True)
class Candidate:
    """A block of a result that contains a group. `computed`: the operation computes it, and does not only move it."""

    operation: int
    result: int
    number: int  # of the block
    positions: int
    computed: bool


def path_axes(symmetry: Symmetry, block: Block, group: int, others: frozenset[int]) -> tuple[int, ...] | None:
    """Return the axes of a group and its outer groups in a block, outermost first.

    Return None unless the block contains each of them once, and besides them only groups that may be there.
    """
    path = symmetry.path(group)
    rest = [own for own in block.groups if own is not None and own not in path]
    once = all(block.groups.count(own) == 1 for own in path)
    if not once or any(own not in others or symmetry.path(own)[0] == path[0] for own in rest):
        return None
    return tuple(block.groups.index(own) for own in path)


class Search:
    """The candidates of all groups in a recorded run, and the choice among them."""

    def __init__(self, recording: Recording, example: Tensor, others: frozenset[int]) -> None:
        self._symmetry = recording.symmetry
        self._others = others
        self._operations = recording.operations
        self._flow = DataFlow(recording.operations, example)
        self._candidates: dict[int, list[Candidate]] = {}
        self._sums: dict[int, list[Candidate]] = {}  # residual additions
        self._factors: dict[int, list[Candidate]] = {}  # of the last product of two activations that sums over the group
        latest: dict[int, dict[int, list[Candidate]]] = {}  # by array and group: where the array comes from
        for number, operation in enumerate(self._operations):
            if not self._flow.is_active(number):
                continue
            found = self._in_results(recording, number, operation)
            self._keep_factors(number, operation, latest, found)
            for result, by_group in zip(operation.results, found, strict=True):
                latest[id(result)] = by_group
                self._keep(number, operation, by_group)

    def _in_results(self, recording: Recording, number: int, operation: Operation) -> list[dict[int, list[Candidate]]]:
        """Return the candidates in each result of an operation, by group."""
        computed = base_name(operation) not in MOVES
        found = []
        for position, result in enumerate(operation.results):
            by_group: dict[int, list[Candidate]] = {}
            for k, block in enumerate(activation_blocks(recording, result)):
                for group in {own for own in block.groups if own is not None}:
                    path = path_axes(self._symmetry, block, group, self._others)
                    if path is not None:
                        units = prod(block.factors[axis].size for axis in path)
                        positions = prod(factor.size for factor in block.factors) // units
                        by_group.setdefault(group, []).append(Candidate(number, position, k, positions, computed))
            found.append(by_group)
        return found

    def _keep(self, number: int, operation: Operation, by_group: dict[int, list[Candidate]]) -> None:
        for group, candidates in by_group.items():
            self._candidates.setdefault(group, []).extend(candidates)
            if self._is_residual_sum(number, operation):
                self._sums.setdefault(group, []).extend(candidates)

    def _is_residual_sum(self, number: int, operation: Operation) -> bool:
        """Return whether an operation adds to an activation something that was computed from it."""
        sources = self._flow.sources[number]
        if base_name(operation) != "add" or len(sources) != 2:
            return False
        a, b = sources
        return a != b and (self._flow.depends(a, b) or self._flow.depends(b, a))

    def _keep_factors(
        self,
        number: int,
        operation: Operation,
        latest: dict[int, dict[int, list[Candidate]]],
        found: Sequence[dict[int, list[Candidate]]],
    ) -> None:
        """If an operation sums over a group in two activations, keep where these come from."""
        if base_name(operation) not in contractions.RULES:
            return
        carried = [latest.get(id(argument), {}) for argument in self._flow.arguments[number]]
        groups = {group for by_group in carried for group in by_group}
        for group in groups - {group for by_group in found for group in by_group}:
            factors = [by_group[group] for by_group in carried if group in by_group]
            if len(factors) > 1:
                self._factors[group] = [candidate for candidates in factors for candidate in candidates]

    def choose(self, group: int) -> tuple[bool, list[Candidate]]:
        """Return whether a group is a residual stream, and the blocks to match it by."""
        if group in self._sums:
            last = _last(self._sums[group])
            return True, [self._after_nonlinearity(group, last)]
        if group in self._factors:
            return False, self._factors[group]
        candidates = self._candidates.get(group, [])
        if not candidates:
            return False, []
        return False, [_last([one for one in candidates if one.computed] or candidates)]

    def before(self, group: int, candidate: Candidate) -> Candidate | None:
        """Return the candidate before the activation function that computes a candidate and has constant parts."""
        sources = self._flow.sources[candidate.operation]
        if base_name(self._operations[candidate.operation]) not in _FLAT or len(sources) != 1:
            return None
        found = [one for one in self._candidates[group] if [one.operation] == sources and one.positions == candidate.positions]
        return found[-1] if found else None

    def _after_nonlinearity(self, group: int, candidate: Candidate) -> Candidate:
        """Return the candidate at the end of the pointwise functions of one argument that follow a candidate."""
        for number in range(candidate.operation + 1, len(self._operations)):
            operation = self._operations[number]
            unary = self._flow.sources[number] == [candidate.operation] and len(operation.tensors()) == 1
            if unary and operation.pointwise and base_name(operation) not in MOVES:
                following = [one for one in self._candidates[group] if one.operation == number]
                candidate = following[0] if following else candidate
        return candidate


def _last(candidates: Sequence[Candidate]) -> Candidate:
    """Return the last of the candidates with the most positions."""
    most = max(candidate.positions for candidate in candidates)
    return [candidate for candidate in candidates if candidate.positions == most][-1]


def activation_blocks(recording: Recording, result: Tensor) -> list[Block]:
    if not result.is_floating_point():
        return []
    return blocks_of_activation(recording.axes(result), result.shape, recording.groups)
