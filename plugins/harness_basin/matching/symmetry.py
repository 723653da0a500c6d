"""A network's permutation symmetry as a value, and the application of permutations to weights.

Permutations are a tuple with one int64 tensor per group. `permutations[g][i]` is the unit of the given weights that moves to
position i (git-re-basin's convention). A group that is within other groups (dimensions within attention heads) has one
permutation per unit of the outer groups, indexed by the units of the given weights: shape (*outer sizes, size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from harness import StateDict, streams
from harness_basin.matching.errors import Mismatch

Permutations = tuple[Tensor, ...]


@dataclass(frozen=True)
class Group:
    """Exchangeable units: `size` of them per unit of the groups `within`, which are given outermost first.

    `name` is the first parameter and axis that the group permutes.
    """

    name: str
    size: int
    within: tuple[int, ...] = ()


@dataclass(frozen=True)
class Factor:
    """A factor of a parameter's axis: `size` steps of `stride` elements, permuted by `group`. None: not permuted."""

    axis: int
    size: int
    stride: int
    group: int | None


@dataclass(frozen=True)
class Block:
    """A part of a parameter as an array with one axis per factor. `offset` and strides count elements of the parameter.

    Most parameters are one block. A fused query-key-value weight is three blocks, each (heads, dimensions, inputs). A block
    counts in the objective unless it belongs to a buffer or to the second name of a tied parameter.
    """

    parameter: str
    offset: int
    factors: tuple[Factor, ...]
    counts: bool = True

    def view(self, tensor: Tensor) -> Tensor:
        """Return the block of a contiguous parameter, as a view with one axis per factor."""
        sizes = [factor.size for factor in self.factors]
        strides = [factor.stride for factor in self.factors]
        return tensor.as_strided(sizes, strides, tensor.storage_offset() + self.offset)

    @cached_property
    def groups(self) -> tuple[int | None, ...]:
        """The group that permutes each factor."""
        return tuple(factor.group for factor in self.factors)


@dataclass(frozen=True)
class Symmetry:
    """A network's permutation groups, the blocks of parameters that they permute, and the shapes of these parameters."""

    groups: tuple[Group, ...]
    blocks: tuple[Block, ...] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    def path(self, group: int) -> tuple[int, ...]:
        """Return the groups that a group is within, outermost first, followed by the group itself."""
        return (*self.groups[group].within, group)

    def shape(self, group: int) -> tuple[int, ...]:
        """Return the shape of a group's permutations: (*outer sizes, size)."""
        return tuple(self.groups[g].size for g in self.path(group))

    def places(self, group: int) -> tuple[tuple[str, int], ...]:
        """Return the (parameter, axis) pairs that a group permutes completely or in part, each once."""
        found: dict[tuple[str, int], None] = {}
        for block in self.blocks:
            for factor in block.factors:
                if factor.group == group:
                    found[block.parameter, factor.axis] = None
        return tuple(found)

    @cached_property
    def count(self) -> int:
        """The number of single permutations: an inner group counts once per unit of its outer groups."""
        return sum(prod(self.shape(g)[:-1]) for g in range(len(self.groups)))

    def __str__(self) -> str:
        """Return one line per group: its number, size, outer group and (parameter, axis) pairs."""
        lines = []
        for g, group in enumerate(self.groups):
            within = ""
            if group.within:
                outer = self.groups[group.within[-1]]
                within = f" in each of {outer.size} {outer.name}"
            places = " ".join(f"{name}[{axis}]" for name, axis in self.places(g))
            lines.append(f"{g:3}  {group.size} units{within}: {places}")
        return "\n".join(lines)

    def checked(self, state: StateDict, label: str = "weights") -> StateDict:
        """Return the permuted parameters, contiguous.

        Raise `Mismatch` for weights of another network. The message starts with the label.
        """
        for name, shape in self.shapes.items():
            if name not in state:
                raise Mismatch(f"{label}: parameter '{name}' is missing; members must be weights of one network")
            if tuple(state[name].shape) != shape:
                raise Mismatch(f"{label}: parameter '{name}' has shape {tuple(state[name].shape)}, the network's has {shape}")
        return {name: state[name].detach().contiguous() for name in self.shapes}


def identity(symmetry: Symmetry) -> Permutations:
    """Return the permutations that move no unit."""
    found = []
    for g in range(len(symmetry.groups)):
        shape = symmetry.shape(g)
        found.append(torch.arange(shape[-1]).expand(shape).clone())
    return tuple(found)


def random_permutations(symmetry: Symmetry, stream: int) -> Permutations:
    """Return independent, uniformly distributed permutations drawn from a stream."""
    found = []
    for g in range(len(symmetry.groups)):
        *outer, size = symmetry.shape(g)
        copies = []
        for copy in range(prod(outer)):
            copies.append(streams.permutation(streams.key("permutation", stream, g, copy), size))
        found.append(torch.stack(copies).reshape(*outer, size))
    return tuple(found)


def unit_map(symmetry: Symmetry, permutations: Permutations, path: Sequence[int]) -> Tensor:
    """Return the unit that moves to every position of nested groups, (product of sizes,). Both are numbered row-major."""
    if len(path) == 1:
        return permutations[path[0]]
    units = torch.zeros(1, dtype=torch.int64)
    for group in path:
        own = permutations[group].reshape(-1, symmetry.groups[group].size)
        units = (units[:, None] * own.shape[1] + own[units]).flatten()
    return units


def compose(symmetry: Symmetry, first: Permutations, second: Permutations) -> Permutations:
    """Return the permutations that are equivalent to the first ones followed by the second ones."""
    found = []
    for g, group in enumerate(symmetry.groups):
        origin = unit_map(symmetry, first, group.within)
        after = second[g].reshape(-1, group.size)[torch.argsort(origin)]
        found.append(first[g].reshape(-1, group.size).gather(1, after).reshape(symmetry.shape(g)))
    return tuple(found)


def inverse(symmetry: Symmetry, permutations: Permutations) -> Permutations:
    """Return the permutations that undo the given ones."""
    found = []
    for g, group in enumerate(symmetry.groups):
        origin = unit_map(symmetry, permutations, group.within)
        found.append(permutations[g].reshape(-1, group.size)[origin].argsort(1).reshape(symmetry.shape(g)))
    return tuple(found)


def permute_block(
    symmetry: Symmetry, block: Block, view: Tensor, permutations: Permutations, keep: Sequence[int] = ()
) -> Tensor:
    """Return a block with permuted units. `view` has one axis per factor of the block; the factors in `keep` stay.

    Innermost groups come first, because their permutations are indexed by the outer units of the given weights.
    """
    innermost_first = []
    for axis, group in enumerate(block.groups):
        if group is not None and axis not in keep:
            innermost_first.append((axis, group))
    innermost_first.sort(key=lambda item: -len(symmetry.groups[item[1]].within))
    for axis, group in innermost_first:
        index = permutations[group].to(view.device)
        outer_axes = block_axes(block, symmetry.groups[group].within)
        if not outer_axes:
            view = view.index_select(axis, index)
        else:
            view = view.take_along_dim(_expanded_index(block, index, [*outer_axes, axis]), axis)
    return view


def block_axes(block: Block, groups: Sequence[int]) -> list[int]:
    """Return the axis of a block that each of some groups permutes."""
    return [block.groups.index(group) for group in groups]


def _expanded_index(block: Block, index: Tensor, axes: Sequence[int]) -> Tensor:
    """Move the dimensions of an index array to the given axes of a block, with size 1 along all others."""
    order = sorted(range(len(axes)), key=axes.__getitem__)
    shape = [1] * len(block.factors)
    for axis in axes:
        shape[axis] = block.factors[axis].size
    return index.permute(*order).reshape(shape)


def permute(symmetry: Symmetry, permutations: Permutations, state: StateDict) -> StateDict:
    """Return new weights with permuted units, which compute the same function.

    Raise `Mismatch` for weights of another network.
    """
    result = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    given = symmetry.checked(state)
    for block in symmetry.blocks:
        permuted = permute_block(symmetry, block, block.view(given[block.parameter]), permutations)
        block.view(result[block.parameter]).copy_(permuted)
    return result
