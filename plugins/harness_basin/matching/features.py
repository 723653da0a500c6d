"""Where a group's units stand in the activations of a network: derived from a recorded run, for each group of its symmetry.

The choice of the place follows the published implementations of activation matching (REPAIR's notebooks, VER):

- a residual stream: its last addition, after the activation function that is applied to it;
- units that a product of two activations sums over (the dimensions of queries and keys): both factors;
- all other units: the last operation that computes them at the largest number of positions, so after the nonlinearity, before
  pooling, and for the dimensions of values after attention.

A group that other groups are within (attention heads) is matched through them and has no place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from harness import kernels
from harness_basin.matching import contractions
from harness_basin.matching.blocks import blocks_of_activation
from harness_basin.matching.dataflow import MOVES, DataFlow, base_name
from harness_basin.matching.errors import UnknownOperation
from harness_basin.matching.operations import Operation
from harness_basin.matching.symmetry import Block, Symmetry
from harness_basin.matching.tracing import Recording, record_run
from harness_basin.matching.verification import verify

_FEW, _MORE = 2, 3  # the numbers of images of the two runs that show which sizes depend on it

_FLAT = {"relu", "hardtanh", "clamp", "clamp_min", "threshold", "hardswish", "hardsigmoid"}
"""Activation functions that are constant on a part of the line."""


@dataclass(frozen=True)
class Extent:
    """A size, stride or offset of an activation: constant + per_image × the number of images."""

    constant: int
    per_image: int

    def at(self, images: int) -> int:
        """Return its value for a number of images."""
        return self.constant + self.per_image * images


@dataclass(frozen=True)
class Place:
    """A part of an operation's result that contains a group's units.

    Operations of a forward pass are numbered from 0. `path` are the axes of the group's outer groups and of itself,
    outermost first; all other axes are positions. Sizes and strides are those of a contiguous array.
    """

    operation: int
    result: int
    overload: str
    module: str
    sizes: tuple[Extent, ...]
    strides: tuple[Extent, ...]
    offset: Extent
    path: tuple[int, ...]

    def __str__(self) -> str:
        """Return the module and the operation."""
        return f"{self.module} ({self.overload})"

    def values(self, result: Tensor, images: int) -> Tensor:
        """Return a copy of the group's activations (positions, units) in a result. Units are numbered row-major."""
        sizes = [size.at(images) for size in self.sizes]
        strides = [stride.at(images) for stride in self.strides]
        result = result.detach().contiguous()
        part = result.as_strided(sizes, strides, result.storage_offset() + self.offset.at(images))
        positions = [axis for axis in range(len(sizes)) if axis not in self.path]
        units = prod(sizes[axis] for axis in self.path)
        return part.permute(*positions, *self.path).clone(memory_format=torch.contiguous_format).view(-1, units)


@dataclass(frozen=True)
class Feature:
    """The places of a group's units. The similarities of several places are added. `residual`: a residual stream.

    `before` has, per place after an activation function that can be constant (ReLU), the place before it, else None.
    """

    group: int
    places: tuple[Place, ...]
    before: tuple[Place | None, ...]
    residual: bool = False

    @property
    def recorded(self) -> tuple[Place, ...]:
        """All places."""
        return (*self.places, *(place for place in self.before if place is not None))


@dataclass(frozen=True)
class FeatureMap:
    """A network's symmetry, and the features of its groups.

    `overloads` are the operations of a forward pass. `unplaced` are the groups whose units stand in no activation alone.
    """

    symmetry: Symmetry
    features: tuple[Feature, ...]
    overloads: tuple[str, ...]
    unplaced: tuple[int, ...]


@dataclass(frozen=True)
class _Candidate:
    """A block of a result that contains a group. `computed`: the operation computes it, and does not only move it."""

    operation: int
    result: int
    number: int  # of the block
    positions: int
    computed: bool


def find_features(network: nn.Module, images: Tensor) -> FeatureMap:
    """Return where the units of a network's groups stand in its activations.

    `images` is a batch of inputs on the network's device; copies of the network run on 2 and 3 of them in eval mode. Raise what
    `derive_symmetry` raises, and `UnknownOperation` if the operations depend on the number of images.
    """
    few, more = _examples(images)
    with kernels.enabled(False):
        recording = record_run(network, few)
        second = record_run(network, more)
        verify(network, recording.symmetry, few)
    overloads = tuple(operation.overload for operation in recording.operations)
    if overloads != tuple(operation.overload for operation in second.operations):
        raise UnknownOperation(
            "the network's operations depend on the number of images; its activations cannot be followed from run to run"
        )
    search = _Search(recording, few)
    scales = _Scales(recording, second)
    features: list[Feature] = []
    unplaced = []
    for group in _innermost_first(recording.symmetry):
        if any(recording.symmetry.groups[found.group].within[-1:] == (group,) for found in features):
            continue  # matched through the groups within it
        residual, candidates = search.choose(group)
        places = [scales.place(group, candidate) for candidate in candidates]
        known = tuple(place for place in places if place is not None)
        if len(known) < max(1, len(places)):
            unplaced.append(group)
        else:
            before = [search.before(group, candidate) for candidate in candidates]
            features.append(Feature(group, known, tuple(scales.place(group, one) for one in before), residual))
    features.sort(key=lambda feature: feature.group)
    return FeatureMap(recording.symmetry, tuple(features), overloads, tuple(sorted(unplaced)))


def _examples(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two batches of different numbers of images, repeated if there are too few."""
    repeated = images.repeat(-(-_MORE // len(images)), *[1] * (images.dim() - 1))
    return repeated[:_FEW].clone(), repeated[:_MORE].clone()


def _innermost_first(symmetry: Symmetry) -> list[int]:
    return sorted(range(len(symmetry.groups)), key=lambda group: -len(symmetry.groups[group].within))


def _path_axes(symmetry: Symmetry, block: Block, group: int) -> tuple[int, ...] | None:
    """Return the axes of a group and its outer groups in a block, or None unless the block contains exactly these groups."""
    path = symmetry.path(group)
    present = [own for own in block.groups if own is not None]
    if sorted(present) != sorted(path):
        return None
    return tuple(block.groups.index(own) for own in path)


class _Search:
    """The candidates of all groups in a recorded run, and the choice among them."""

    def __init__(self, recording: Recording, example: Tensor) -> None:
        self._symmetry = recording.symmetry
        self._operations = recording.operations
        self._flow = DataFlow(recording.operations, example)
        self._candidates: dict[int, list[_Candidate]] = {}
        self._sums: dict[int, list[_Candidate]] = {}  # residual additions
        self._factors: dict[int, list[_Candidate]] = {}  # of the last product of two activations that sums over the group
        latest: dict[int, dict[int, list[_Candidate]]] = {}  # by array and group: where the array comes from
        for number, operation in enumerate(self._operations):
            if not self._flow.is_active(number):
                continue
            found = self._in_results(recording, number, operation)
            self._keep_factors(number, operation, latest, found)
            for result, by_group in zip(operation.results, found, strict=True):
                latest[id(result)] = by_group
                self._keep(number, operation, by_group)

    def _in_results(self, recording: Recording, number: int, operation: Operation) -> list[dict[int, list[_Candidate]]]:
        """Return the candidates in each result of an operation, by group."""
        computed = base_name(operation) not in MOVES
        found = []
        for position, result in enumerate(operation.results):
            by_group: dict[int, list[_Candidate]] = {}
            for k, block in enumerate(_blocks(recording, result)):
                for group in {own for own in block.groups if own is not None}:
                    path = _path_axes(self._symmetry, block, group)
                    if path is not None:
                        units = prod(block.factors[axis].size for axis in path)
                        positions = prod(factor.size for factor in block.factors) // units
                        by_group.setdefault(group, []).append(_Candidate(number, position, k, positions, computed))
            found.append(by_group)
        return found

    def _keep(self, number: int, operation: Operation, by_group: dict[int, list[_Candidate]]) -> None:
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
        latest: dict[int, dict[int, list[_Candidate]]],
        found: Sequence[dict[int, list[_Candidate]]],
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

    def choose(self, group: int) -> tuple[bool, list[_Candidate]]:
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

    def before(self, group: int, candidate: _Candidate) -> _Candidate | None:
        """Return the candidate before the activation function that computes a candidate and has constant parts."""
        sources = self._flow.sources[candidate.operation]
        if base_name(self._operations[candidate.operation]) not in _FLAT or len(sources) != 1:
            return None
        found = [one for one in self._candidates[group] if [one.operation] == sources and one.positions == candidate.positions]
        return found[-1] if found else None

    def _after_nonlinearity(self, group: int, candidate: _Candidate) -> _Candidate:
        """Return the candidate at the end of the pointwise functions of one argument that follow a candidate."""
        for number in range(candidate.operation + 1, len(self._operations)):
            operation = self._operations[number]
            unary = self._flow.sources[number] == [candidate.operation] and len(operation.tensors()) == 1
            if unary and operation.pointwise and base_name(operation) not in MOVES:
                following = [one for one in self._candidates[group] if one.operation == number]
                candidate = following[0] if following else candidate
        return candidate


def _last(candidates: Sequence[_Candidate]) -> _Candidate:
    """Return the last of the candidates with the most positions."""
    most = max(candidate.positions for candidate in candidates)
    return [candidate for candidate in candidates if candidate.positions == most][-1]


def _blocks(recording: Recording, result: Tensor) -> list[Block]:
    if not result.is_floating_point():
        return []
    return blocks_of_activation(recording.axes(result), result.shape, recording.groups)


class _Scales:
    """Two runs of a network on different numbers of images, which show how the layout of a place depends on them."""

    def __init__(self, few: Recording, more: Recording) -> None:
        self._few = few
        self._more = more

    def place(self, group: int, candidate: _Candidate | None) -> Place | None:
        """Return a candidate as a place, or None if its layout depends on the number of images in another way."""
        if candidate is None:
            return None
        operation = self._few.operations[candidate.operation]
        other = self._more.operations[candidate.operation]
        small = _blocks(self._few, operation.results[candidate.result])[candidate.number]
        large = _blocks(self._more, other.results[candidate.result])[candidate.number : candidate.number + 1]
        path = _path_axes(self._few.symmetry, small, group)
        if not large or small.groups != large[0].groups or path is None:
            return None
        extents = list(_extents(small, large[0]))
        if None in extents:
            return None
        known = [extent for extent in extents if extent is not None]
        rank = len(small.factors)
        sizes, strides = tuple(known[1 : 1 + rank]), tuple(known[1 + rank :])
        return Place(
            candidate.operation, candidate.result, operation.overload, operation.module, sizes, strides, known[0], path
        )


def _extents(small: Block, large: Block) -> Iterator[Extent | None]:
    """Yield the offset, the sizes and the strides of a block that is known for two numbers of images."""
    yield _extent(small.offset, large.offset)
    for a, b in zip(small.factors, large.factors, strict=True):
        yield _extent(a.size, b.size)
    for a, b in zip(small.factors, large.factors, strict=True):
        yield _extent(a.stride, b.stride)


def _extent(few: int, more: int) -> Extent | None:
    """Return a number that is constant or proportional to the number of images, or None."""
    if few == more:
        return Extent(few, 0)
    if few * _MORE == more * _FEW:
        return Extent(0, few // _FEW)
    return None
