"""Inner products of two networks' weights, and Gram matrices between the units of the two networks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness import StateDict, TaskFailed
from harness_basin.matching.symmetry import Block, Permutations, Symmetry, block_axes, identity, permute_block, unit_map


@dataclass(frozen=True)
class Pair:
    """The permuted parameters of two networks, and the precision of products between them.

    `keeps_arranged` says whether Gram matrices keep copies of the weights, arranged for their products.
    """

    symmetry: Symmetry
    reference: dict[str, Tensor]
    other: dict[str, Tensor]
    dtype: torch.dtype
    keeps_arranged: bool = False

    def views(self, block: Block) -> tuple[Tensor, Tensor]:
        """Return a block of both networks, with one axis per factor."""
        return block.view(self.reference[block.parameter]), block.view(self.other[block.parameter])

    def value(self, blocks: Iterable[Block], permutations: Permutations) -> float:
        """Return ⟨θ_a, π θ_b⟩ over blocks. Raise `TaskFailed` if it is not finite."""
        total = 0.0
        for block in blocks:
            a, b = self.views(block)
            b = permute_block(self.symmetry, block, b, permutations)
            total += float(torch.dot(a.to(self.dtype).flatten(), b.to(self.dtype).flatten()))
        return require_finite(total)


def inner_product(symmetry: Symmetry, a: StateDict, b: StateDict) -> float:
    """Return ⟨θ_a, θ_b⟩ over the weights that permutations move, in float64. Raise `TaskFailed` if it is not finite."""
    pair = Pair(symmetry, symmetry.checked(a), symmetry.checked(b), torch.float64)
    return pair.value([block for block in symmetry.blocks if block.counts], identity(symmetry))


class GroupAxes(NamedTuple):
    """A group, and the axes of a block that its outer groups and it permute, outermost first."""

    group: int
    axes: list[int]


def innermost_groups(symmetry: Symmetry, block: Block, groups: Sequence[int]) -> list[GroupAxes]:
    """Return those of some groups that permute a block and have none of the others within them."""
    present = []
    outer: set[int] = set()
    for axis, group in enumerate(block.groups):
        if group is not None and group in groups:
            present.append((group, axis))
            outer.update(symmetry.groups[group].within)
    found = []
    for group, axis in present:
        if group not in outer:
            axes = [*block_axes(block, symmetry.groups[group].within), axis]
            found.append(GroupAxes(group, axes))
    return found


class GramTerm:
    """The contribution of one block to a Gram matrix. It is updated when the permutations of the block's other axes change.

    If one other group, or one chain of nested groups, permutes the block, an update multiplies only the partner units that
    moved, as arrays (partner units, rest, own units). If the pair `keeps_arranged`, these are parts of arranged copies, in
    the networks' own precision; they take up to four times a network's size for both. Otherwise they are arranged for every
    update.
    """

    def __init__(self, pair: Pair, block: Block, own: Sequence[int]) -> None:
        """`own` are the axes of the block that form the rows and columns of the Gram matrix."""
        self.pair = pair
        self.block = block
        self.own = own
        self.partner: tuple[int, ...] = ()
        self._partner_axes: list[int] = []
        self._last_units: Tensor | None = None
        self._last_gram: np.ndarray | None = None
        others = [group for axis, group in enumerate(block.groups) if group is not None and axis not in own]
        chains = innermost_groups(pair.symmetry, block, others)
        if chains:
            self.partner = pair.symmetry.path(chains[0].group)
            self._partner_axes = chains[0].axes
        self._rows = [*self._partner_axes, *_other_axes(block, [*own, *self._partner_axes])]
        self._has_one_partner = len(chains) < 2
        self._copies: tuple[Tensor, Tensor] | None = None
        if pair.keeps_arranged and self._has_one_partner:
            a, b = pair.views(block)
            self._copies = self._units_first(a), self._units_first(b)

    def _units_first(self, view: Tensor) -> Tensor:
        """Return a block as (partner units, rest, own units)."""
        count = math.prod(view.shape[axis] for axis in self._partner_axes)
        return _matrix(view, self._rows, self.own).unflatten(0, (count, -1))

    def _arranged(self, network: int, units: Tensor | None = None) -> Tensor:
        """Return a network's block as (partner units, rest, own units), in the precision of products.

        `network` is 0 for the reference, 1 for the other. `units` are the partner units, in order; None: all. Without copies, a
        single axis is selected before the rest is arranged.
        """
        if self._copies is not None:
            array = self._copies[network]
        else:
            view = self.pair.views(self.block)[network]
            if units is not None and len(self._partner_axes) == 1:
                view = view.index_select(self._partner_axes[0], units)
                units = None
            array = self._units_first(view)
        if units is not None:
            array = array.index_select(0, units)
        return array.to(self.pair.dtype)

    def reset(self) -> None:
        """Forget the last permutations: the next change is the whole Gram matrix."""
        self._last_units = None
        self._last_gram = None

    def change(self, permutations: Permutations) -> np.ndarray | None:
        """Return the change of the Gram matrix (own units, own units) since the last call, or None if it did not change."""
        if not self._has_one_partner:
            last = self._last_gram
            self._last_gram = gram(self.pair, self.block, self.own, permutations)
            if last is None:
                return self._last_gram.copy()
            return self._last_gram - last
        units = unit_map(self.pair.symmetry, permutations, self.partner)
        last_units = self._last_units
        self._last_units = units
        if last_units is None:
            return _product(self._arranged(0), self._arranged(1, units))
        (moved,) = torch.nonzero(units != last_units, as_tuple=True)
        if not len(moved):
            return None
        difference = self._arranged(1, units[moved]).sub_(self._arranged(1, last_units[moved]))
        if len(moved) == len(units):
            return _product(self._arranged(0), difference)
        return _product(self._arranged(0, moved), difference)


def gram(pair: Pair, block: Block, own: Sequence[int], permutations: Permutations) -> np.ndarray:
    """Return a block's Gram matrix over the axes `own`, in float64, with the other axes of the second network permuted."""
    a, b = pair.views(block)
    b = permute_block(pair.symmetry, block, b, permutations, keep=own)
    rest = _other_axes(block, own)
    rows_a, rows_b = (_matrix(view, rest, own).to(pair.dtype) for view in (a, b))
    return _product(rows_a, rows_b).astype(np.float64)


def _other_axes(block: Block, axes: Sequence[int]) -> list[int]:
    """Return the axes of a block that are not among the given ones."""
    return [axis for axis in range(len(block.factors)) if axis not in axes]


def _product(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the product (units of a, units of b), summed over all axes but the last one. Raise `TaskFailed` unless finite."""
    product = (a.flatten(0, -2).T @ b.flatten(0, -2)).numpy()
    infinite = product[~np.isfinite(product)]
    if infinite.size:
        require_finite(float(infinite[0]))
    return product


def _matrix(view: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Return a block as a contiguous matrix whose rows and columns are products of the given axes.

    A conversion comes after this copy: the reverse order takes eight times as long.
    """
    row_count = math.prod(view.shape[axis] for axis in rows)
    column_count = math.prod(view.shape[axis] for axis in columns)
    return view.permute(*rows, *columns).reshape(row_count, column_count).contiguous()


def require_finite(value: float) -> float:
    """Return an inner product. Raise `TaskFailed` if it is infinite or not a number."""
    if not math.isfinite(value):
        raise TaskFailed(f"matching: an inner product of the weights is {value}; have the members diverged?")
    return value
