"""Where a group's units stand in the activations of a network: derived from a recorded run, for each group of its symmetry.

The choice of the place follows the published implementations of activation matching (REPAIR's notebooks, VER):

- a residual stream: its last addition, after the activation function that is applied to it;
- units that a product of two activations sums over (the dimensions of queries and keys): both factors;
- all other units: the last operation that computes them at the largest number of positions, so after the nonlinearity, before
  pooling, and for the dimensions of values after attention.

A group that other groups are within (attention heads) is matched through them and has no place of its own.

Some units stand only in activations that other groups permute as well: the dimensions that all heads share, the units of a
mixer's MLP over tokens at every channel. Their features are `dependent`: they mean something once the others are matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn

from harness import kernels
from harness_basin.matching.activation.feature_search import Candidate, Search, activation_blocks, path_axes
from harness_basin.matching.errors import UnknownOperation
from harness_basin.matching.symmetry import Block, Symmetry
from harness_basin.matching.tracing import Recording, record_run

_FEW, _MORE = 2, 3  # the numbers of images of the two runs that show which sizes depend on it


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

    `dependent` are those of groups whose places other groups permute, too. `overloads` are the operations of a forward pass.
    `unplaced` are the groups without a usable activation.
    """

    symmetry: Symmetry
    features: tuple[Feature, ...]
    dependent: tuple[Feature, ...]
    overloads: tuple[str, ...]
    unplaced: tuple[int, ...]

    def without_before(self) -> FeatureMap:
        """Return the map without the places before activation functions."""
        features = []
        for feature in self.features:
            features.append(replace(feature, before=(None,) * len(feature.places)))
        return replace(self, features=tuple(features))

    def of_dependent(self) -> FeatureMap:
        """Return the map with the dependent features in place of the independent ones."""
        return replace(self, features=self.dependent, dependent=())


def find_features(network: nn.Module, images: Tensor) -> FeatureMap:
    """Return where the units of a network's groups stand in its activations.

    `images` is a batch of inputs on the network's device; copies of the network run on 2 and 3 of them in eval mode. The
    symmetry is not verified. Raise `UnknownOperation` as `derive_symmetry`, and if the operations depend on the number of
    images.
    """
    few, more = _examples(images)
    with kernels.enabled(False):
        recording = record_run(network, few)
        second = record_run(network, more)
    overloads = tuple(operation.overload for operation in recording.operations)
    if overloads != tuple(operation.overload for operation in second.operations):
        raise UnknownOperation(
            "the network's operations depend on the number of images; its activations cannot be followed from run to run"
        )
    groups = _innermost_first(recording.symmetry)
    features, missing = _found(recording, second, few, groups, frozenset())
    roots = {recording.symmetry.path(feature.group)[0] for feature in features}
    matched = frozenset(group for group in groups if recording.symmetry.path(group)[0] in roots)
    dependent: list[Feature] = []
    later = [group for group in missing if group not in matched]
    unplaced = [group for group in missing if group in matched]
    if later:
        dependent, missing = _found(recording, second, few, later, matched)
        unplaced += missing
    return FeatureMap(recording.symmetry, tuple(features), tuple(dependent), overloads, tuple(sorted(unplaced)))


def _found(
    recording: Recording, second: Recording, example: Tensor, groups: Sequence[int], others: frozenset[int]
) -> tuple[list[Feature], list[int]]:
    """Return the features of groups, innermost first, and the groups that have none; `others` may share their places."""
    search = Search(recording, example, others)
    scales = _Scales(recording, second, others)
    features: list[Feature] = []
    missing = []
    for group in groups:
        if any(group in recording.symmetry.groups[found.group].within for found in features):
            continue  # matched through the groups within it
        residual, candidates = search.choose(group)
        places = [scales.place(group, candidate) for candidate in candidates]
        known = tuple(place for place in places if place is not None)
        if len(known) < max(1, len(places)):
            missing.append(group)
        else:
            before = tuple(scales.place(group, search.before(group, candidate)) for candidate in candidates)
            features.append(Feature(group, known, before, residual))
    features.sort(key=lambda feature: feature.group)
    return features, missing


def _examples(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two batches of different numbers of images, repeated if there are too few."""
    repeated = images.repeat(-(-_MORE // len(images)), *[1] * (images.dim() - 1))
    return repeated[:_FEW].clone(), repeated[:_MORE].clone()


def _innermost_first(symmetry: Symmetry) -> list[int]:
    return sorted(range(len(symmetry.groups)), key=lambda group: -len(symmetry.groups[group].within))


class _Scales:
    """Two runs of a network on different numbers of images, which show how the layout of a place depends on them."""

    def __init__(self, few: Recording, more: Recording, others: frozenset[int]) -> None:
        self._few = few
        self._more = more
        self._others = others

    def place(self, group: int, candidate: Candidate | None) -> Place | None:
        """Return a candidate as a place, or None if its layout depends on the number of images in another way."""
        if candidate is None:
            return None
        operation = self._few.operations[candidate.operation]
        other = self._more.operations[candidate.operation]
        small = activation_blocks(self._few, operation.results[candidate.result])[candidate.number]
        large = activation_blocks(self._more, other.results[candidate.result])[candidate.number : candidate.number + 1]
        path = path_axes(self._few.symmetry, small, group, self._others)
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
