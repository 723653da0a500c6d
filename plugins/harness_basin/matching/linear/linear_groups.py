"""Groups of linear maps of hidden units that keep a network's function, as values, and their application to weights.

A permutation group moves units. The groups of this module multiply them, with the same factor or matrix in every tensor that
contains the units, or with its inverse. Elements are a tuple with one float64 tensor per group. The element of a group of
scales has the shape (*outer sizes, size); the element of a group of matrices has the shape (*outer sizes, size, size). A group
that is within others (dimensions within attention heads) has one element per unit of the outer groups, indexed by the units of
the given weights, as the permutations of `symmetry.py` are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import torch
from torch import Tensor

from harness import StateDict
from harness_basin.matching.errors import Mismatch
from harness_basin.matching.symmetry import Block, block_axes

Kind = Literal["scale", "orthogonal", "invertible"]
"""Positive factors per unit; orthogonal matrices; invertible matrices."""

KINDS: tuple[Kind, ...] = ("scale", "orthogonal", "invertible")

Action = Literal["direct", "inverse", "inverse_transposed"]
"""x along the axis becomes A x, A⁻¹ x or A⁻ᵀ x. For scales, A is diagonal, and the last two are the same."""

Elements = tuple[Tensor, ...]


@dataclass(frozen=True)
class Place:
    """An axis of a block of a parameter on which a group acts. `axis` is the number of the block's factor."""

    block: Block
    axis: int
    action: Action

    def __str__(self) -> str:
        """Return the parameter with the axis, and the action if it is not direct: `fc.weight[1]⁻¹`."""
        marks = {"direct": "", "inverse": "⁻¹", "inverse_transposed": "⁻ᵀ"}
        return f"{self.block.parameter}[{self.block.factors[self.axis].axis}]{marks[self.action]}"


@dataclass(frozen=True)
class Reader:
    """A linear map that reads the output of a normalization along an axis of its weight.

    `bias` is the part of its bias that has the factors of the weight's block without that axis; None if there is no bias.
    """

    place: Place
    bias: Block | None


@dataclass(frozen=True)
class Normalization:
    """A LayerNorm between an orthogonal group's writers and readers: the names of its scale and shift, and its readers.

    In the normal form its scale is 1 and its shift is 0, because the readers contain them.
    """

    scale: str
    shift: str | None
    readers: tuple[Reader, ...]


@dataclass(frozen=True)
class LinearGroup:
    """Linear maps of `size` units that keep the function, one per unit of the permutation groups `within` (outermost first).

    `outer_sizes` are the sizes of the groups within which it is, and `index` is the permutation group of the same units. With
    `fixes_ones`, only matrices R with R 1 = 1 and Rᵀ 1 = 1 belong to the group. A group with `normalizations` keeps the
    function only of weights in normal form.
    """

    kind: Kind
    name: str
    size: int
    places: tuple[Place, ...] = field(repr=False)
    index: int = 0
    within: tuple[int, ...] = ()
    outer_sizes: tuple[int, ...] = ()
    fixes_ones: bool = False
    normalizations: tuple[Normalization, ...] = field(default=(), repr=False)

    @property
    def needs_normal_form(self) -> bool:
        """Whether the group keeps the function only of weights whose normalizations have scale 1 and shift 0."""
        return bool(self.normalizations)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the group's elements."""
        if self.kind == "scale":
            return (*self.outer_sizes, self.size)
        return (*self.outer_sizes, self.size, self.size)

    @cached_property
    def count(self) -> int:
        """The number of independent elements: one per unit of the outer groups."""
        return prod(self.outer_sizes)

    def __str__(self) -> str:
        """Return the kind, the size, the number of elements and the places in one line."""
        copies = f", {self.count} times" if self.within else ""
        condition = ", in normal form" if self.needs_normal_form else ""
        return f"{self.kind}({self.size}){copies}{condition}: {' '.join(map(str, self.places))}"


def identity_elements(groups: Sequence[LinearGroup]) -> Elements:
    """Return the elements that change nothing."""
    found = []
    for group in groups:
        if group.kind == "scale":
            found.append(torch.ones(group.shape, dtype=torch.float64))
        else:
            found.append(torch.eye(group.size, dtype=torch.float64).expand(group.shape).clone())
    return tuple(found)


def compose_elements(groups: Sequence[LinearGroup], first: Elements, second: Elements) -> Elements:
    """Return the elements that are equivalent to the first ones followed by the second ones."""
    found = []
    for group, a, b in zip(groups, first, second, strict=True):
        found.append(b * a if group.kind == "scale" else b @ a)
    return tuple(found)


def inverse_elements(groups: Sequence[LinearGroup], elements: Elements) -> Elements:
    """Return the elements that undo the given ones."""
    found = []
    for group, element in zip(groups, elements, strict=True):
        found.append(element.reciprocal() if group.kind == "scale" else torch.linalg.inv(element))
    return tuple(found)


def act(groups: Sequence[LinearGroup], elements: Elements, state: StateDict) -> StateDict:
    """Return new weights, moved by the elements. They are computed in float64 and stored in the type of the given weights.

    Raise `Mismatch` for weights of another network and for elements of another shape.
    """
    moved: dict[str, Tensor] = {}
    for group, element in zip(groups, elements, strict=True):
        if tuple(element.shape) != group.shape:
            raise Mismatch(f"{group.name}: element has shape {tuple(element.shape)}, the group's have {group.shape}")
        by_action = _actions(group, element.double())
        for place in group.places:
            name = place.block.parameter
            if name not in moved:
                moved[name] = _exact(state, name)
            view = place.block.view(moved[name])
            view.copy_(_applied(group, by_action[place.action], place, view))
    result = {}
    for name, tensor in state.items():
        if name in moved:
            result[name] = moved[name].to(tensor.dtype)
        else:
            result[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return result


def units_first(group: LinearGroup, place: Place, view: Tensor) -> Tensor:
    """Return a block with the axes of the outer groups and of the group moved to the front, and the others flattened.

    The result has the shape (*outer sizes, size, rest).
    """
    axes = [*block_axes(place.block, group.within), place.axis]
    front = view.movedim(axes, list(range(len(axes))))
    return front.reshape(*front.shape[: len(axes)], -1)


def _exact(state: StateDict, name: str) -> Tensor:
    """Return a parameter as a new contiguous float64 tensor."""
    if name not in state:
        raise Mismatch(f"weights: parameter '{name}' is missing; members must be weights of one network")
    return state[name].detach().to(torch.float64, memory_format=torch.contiguous_format, copy=True)


def _actions(group: LinearGroup, element: Tensor) -> dict[str, Tensor]:
    """Return what multiplies the units, by action: factors, or matrices."""
    if group.kind == "scale":
        return {"direct": element, "inverse": 1 / element, "inverse_transposed": 1 / element}
    inverse = torch.linalg.inv(element)
    if group.kind == "orthogonal":
        inverse = element.mT
    return {"direct": element, "inverse": inverse, "inverse_transposed": inverse.mT}


def _applied(group: LinearGroup, element: Tensor, place: Place, view: Tensor) -> Tensor:
    """Return a block multiplied by factors or matrices along the place's axis."""
    axes = [*block_axes(place.block, group.within), place.axis]
    front_axes = list(range(len(axes)))
    front = view.movedim(axes, front_axes)
    flat = front.reshape(*front.shape[: len(axes)], -1)
    element = element.to(view.device)
    product = element[..., None] * flat if group.kind == "scale" else element @ flat
    return product.reshape(front.shape).movedim(front_axes, axes)
