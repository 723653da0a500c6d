"""Products of two networks' weights per block, summed as far as scales allow, and multiplied as the scales change.

A table has the axes of a block that scales multiply. A convolution of 3×3 pixels is a table of (channels, channels). A visit of
the descent therefore reads a ninth of the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness import StateDict
from harness_basin.matching.linear.linear_groups import LinearGroup
from harness_basin.matching.scales.scale_steps import Vector
from harness_basin.matching.symmetry import Block, block_axes


@dataclass(frozen=True)
class ScaledAxes:
    """The axes along which a group multiplies (power 1) or divides (-1): those of the groups it is within, then its own."""

    group: int
    axes: tuple[int, ...]
    power: int


class ScaledTable:
    """The products of one block's weights: `cross` is Σ x y and `square` is Σ y², for the reference x and the scaled y."""

    def __init__(self, block: Block, x: Tensor, y: Tensor, places: Sequence[ScaledAxes]) -> None:
        kept = sorted({axis for place in places for axis in place.axes})
        summed = [axis for axis in range(len(block.factors)) if axis not in kept]
        cross = x * y
        square = y * y
        if summed:
            cross = cross.sum(summed)
            square = square.sum(summed)
        self.cross: Vector = cross.cpu().numpy()
        self.square: Vector = square.cpu().numpy()
        self.distance = float(((x - y) ** 2).sum())
        self.places = [ScaledAxes(place.group, tuple(map(kept.index, place.axes)), place.power) for place in places]

    def of(self, group: int) -> list[ScaledAxes]:
        """Return where a group multiplies the block. Factors that multiply two axes depend on one another."""
        return [place for place in self.places if place.group == group]

    def add_sums(self, group: int, power: int, cross: Vector, square: Vector) -> None:
        """Add Σ x y and Σ y² per unit of a group, over its places with a power.

        If the group multiplies one axis and divides another, elements of the same unit on both do not change; they are left
        out.
        """
        own = self.of(group)
        changing: Vector | float = 1.0
        if len(own) > 1:
            changing = 1.0 - _diagonal(self.cross.shape, own[0].axes[-1], own[1].axes[-1])
        for place in own:
            if place.power == power:
                cross += _per_unit(self.cross * changing, place.axes)
                square += _per_unit(self.square * changing, place.axes)

    def multiply(self, group: int, factors: Vector) -> None:
        """Multiply the scaled weights by a group's factors, or divide, as their places say."""
        for place in self.of(group):
            shape = [1] * self.cross.ndim
            for axis in place.axes:
                shape[axis] = self.cross.shape[axis]
            along = factors.transpose(np.argsort(place.axes)).reshape(shape) ** place.power
            self.cross = self.cross * along
            self.square = self.square * along**2


def scaled_tables(
    groups: Sequence[LinearGroup], reference: StateDict, other: StateDict, counted: Collection[str]
) -> list[ScaledTable]:
    """Return one table per block of the counted weights that scales multiply, computed in float64."""
    places: dict[Block, list[ScaledAxes]] = {}
    for number, group in enumerate(groups):
        for place in group.places:
            axes = (*block_axes(place.block, group.within), place.axis)
            power = 1 if place.action == "direct" else -1
            places.setdefault(place.block, []).append(ScaledAxes(number, axes, power))
    found = []
    for block, own in places.items():
        if block.parameter in counted:
            x = block.view(reference[block.parameter].detach().contiguous()).double()
            y = block.view(other[block.parameter].detach().contiguous()).double()
            found.append(ScaledTable(block, x, y, own))
    return found


def _per_unit(table: Vector, axes: Sequence[int]) -> Vector:
    """Return a table summed over all axes but some, which are put in the given order."""
    others = tuple(axis for axis in range(table.ndim) if axis not in axes)
    order = np.argsort(np.argsort(axes))
    units: Vector = table.sum(others).transpose(order)
    return units


def _diagonal(shape: tuple[int, ...], first: int, second: int) -> Vector:
    """Return an array with ones where the positions along two axes are equal, and zeros elsewhere, for broadcasting."""
    along = [1] * len(shape)
    along[first] = shape[first]
    along[second] = shape[first]
    return np.eye(shape[first]).reshape(along)
