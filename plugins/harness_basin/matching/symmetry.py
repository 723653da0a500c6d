"""The permutation symmetry of a network as a value: which units may change places, and where they stand in the weights.

A `Symmetry` is what `derive_symmetry` returns and what everything else here needs to know of a network. Permutations are a
tuple of int64 tensors, one a group: `permutations[g][i]` is the unit of the given weights that comes to stand at place i
(git-re-basin's convention). A group inside others (dimensions within attention heads) has one permutation for every unit of
the outer ones, numbered as in the given weights: shape (*outer sizes, size).
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
    """Units that may change places with one another: `size` of them in every unit of the groups `within`, outermost first.

    `name` is the first parameter and axis that they stand in.
    """

    name: str
    size: int
    within: tuple[int, ...] = ()


@dataclass(frozen=True)
class Factor:
    """A factor of a parameter's axis: `size` steps of `stride` elements, moved by a group or (None) by nothing."""

    axis: int
    size: int
    stride: int
    group: int | None


@dataclass(frozen=True)
class Block:
    """A part of a parameter as an array with one axis per factor; `offset` and strides count elements of the parameter.

    Most parameters are one block. A fused query-key-value weight is three, each (heads, dimensions, inputs). A block counts
    in the objective unless it belongs to a buffer or to the second name of a tied parameter.
    """

    parameter: str
    offset: int
    factors: tuple[Factor, ...]
    counts: bool = True

    def view(self, tensor: Tensor) -> Tensor:
        """Return the block of a contiguous parameter, as a view with one axis per factor."""
        sizes, strides = [f.size for f in self.factors], [f.stride for f in self.factors]
        return tensor.as_strided(sizes, strides, tensor.storage_offset() + self.offset)

    @cached_property
    def groups(self) -> tuple[int | None, ...]:
        """The group that moves each factor."""
        return tuple(f.group for f in self.factors)


@dataclass(frozen=True)
class Symmetry:
    """A network's permutation groups, and the blocks of its parameters that they move."""

    groups: tuple[Group, ...]
    blocks: tuple[Block, ...] = field(repr=False)
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    def path(self, group: int) -> tuple[int, ...]:
        """Return a group behind the groups it is within."""
        return (*self.groups[group].within, group)

    def shape(self, group: int) -> tuple[int, ...]:
        """Return the shape of a group's permutations: (*outer sizes, size)."""
        return tuple(self.groups[g].size for g in self.path(group))

    def places(self, group: int) -> tuple[tuple[str, int], ...]:
        """Return the (parameter, axis) pairs that a group permutes, or permutes a part of."""
        found = {(b.parameter, f.axis): None for b in self.blocks for f in b.factors if f.group == group}
        return tuple(found)

    @cached_property
    def count(self) -> int:
        """The number of single permutations: a group within others counts once for every unit of theirs."""
        return sum(prod(self.shape(g)[:-1]) for g in range(len(self.groups)))

    def __str__(self) -> str:
        lines = []
        for g, group in enumerate(self.groups):
            where = "".join(f" in each of {self.groups[o].size} {self.groups[o].name}" for o in group.within[-1:])
            lines.append(f"{g:3}  {group.size} units{where}: " + " ".join(f"{name}[{axis}]" for name, axis in self.places(g)))
        return "\n".join(lines)

    def checked(self, state: StateDict, whose: str = "weights") -> StateDict:
        """Return the parameters that are permuted, contiguous; refuse weights of another network."""
        for name, shape in self.shapes.items():
            if name not in state:
                raise Mismatch(f"{whose}: parameter '{name}' is missing; members must be weights of one network")
            if tuple(state[name].shape) != shape:
                raise Mismatch(f"{whose}: parameter '{name}' has shape {tuple(state[name].shape)}, the network's has {shape}")
        return {name: state[name].detach().contiguous() for name in self.shapes}


def identity(symmetry: Symmetry) -> Permutations:
    """Return the permutations that leave everything in place."""
    shapes = [symmetry.shape(g) for g in range(len(symmetry.groups))]
    return tuple(torch.arange(shape[-1]).expand(shape).clone() for shape in shapes)


def random_permutations(symmetry: Symmetry, stream: int) -> Permutations:
    """Return independent uniform permutations drawn from a stream."""
    found = []
    for g in range(len(symmetry.groups)):
        *outer, size = symmetry.shape(g)
        keys = [streams.key("permutation", stream, g, copy) for copy in range(prod(outer))]
        found.append(torch.stack([streams.permutation(key, size) for key in keys]).reshape(*outer, size))
    return tuple(found)


def unit_map(symmetry: Symmetry, permutations: Permutations, path: Sequence[int]) -> Tensor:
    """Return the unit that comes to stand at every place of nested groups, both numbered row-major; (product of sizes,)."""
    if len(path) == 1:
        return permutations[path[0]]
    units = torch.zeros(1, dtype=torch.int64)
    for group in path:
        own = permutations[group].reshape(-1, symmetry.groups[group].size)
        units = (units[:, None] * own.shape[1] + own[units]).flatten()
    return units


def compose(symmetry: Symmetry, first: Permutations, second: Permutations) -> Permutations:
    """Return the permutations that do what the first do, then the second."""
    found = []
    for g, group in enumerate(symmetry.groups):
        came_from = unit_map(symmetry, first, group.within)
        after = second[g].reshape(-1, group.size)[torch.argsort(came_from)]
        found.append(first[g].reshape(-1, group.size).gather(1, after).reshape(symmetry.shape(g)))
    return tuple(found)


def inverse(symmetry: Symmetry, permutations: Permutations) -> Permutations:
    """Return the permutations that undo these."""
    found = []
    for g, group in enumerate(symmetry.groups):
        came_from = unit_map(symmetry, permutations, group.within)
        found.append(permutations[g].reshape(-1, group.size)[came_from].argsort(1).reshape(symmetry.shape(g)))
    return tuple(found)


def moved(symmetry: Symmetry, block: Block, view: Tensor, permutations: Permutations, keep: Sequence[int] = ()) -> Tensor:
    """Return a block, given as an array with one axis per factor, with its units at their new places; `keep` factors stay."""
    order = [(group, axis) for axis, group in enumerate(block.groups) if group is not None and axis not in keep]
    for group, axis in sorted(order, key=lambda item: -len(symmetry.groups[item[0]].within)):
        axes = [*(block.groups.index(outer) for outer in symmetry.groups[group].within), axis]
        index = permutations[group].to(view.device)
        if len(axes) == 1:
            view = view.index_select(axis, index)
        else:
            index = index.permute(*sorted(range(len(axes)), key=axes.__getitem__))
            index = index.reshape([f.size if k in axes else 1 for k, f in enumerate(block.factors)])
            view = view.take_along_dim(index, axis)
    return view


def permute(symmetry: Symmetry, permutations: Permutations, state: StateDict) -> StateDict:
    """Return new weights that compute the same function, with their units at the places that the permutations say."""
    result = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    given = symmetry.checked(state)
    for block in symmetry.blocks:
        block.view(result[block.parameter]).copy_(moved(symmetry, block, block.view(given[block.parameter]), permutations))
    return result
