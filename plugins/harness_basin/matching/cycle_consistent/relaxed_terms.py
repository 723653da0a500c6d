"""The objective of relaxed permutations, Σ_{i≠j} ⟨P_i θ_i, P_j θ_j⟩, as a sum over arrays of weights.

Every array is linear in the matrix of each of its *slots*: (out, in, kernel) weights have two, a bias has one. Weights that the
same groups permute are one array, so that a step consists of few products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness import StateDict
from harness_basin.matching.coordinate_descent.gram import GroupAxes, innermost_groups
from harness_basin.matching.cycle_consistent.relaxation import Point, dense
from harness_basin.matching.symmetry import Block, Symmetry

JOINED_SHARE = 0.02
"""Arrays with more than this share of a member's weights are not joined: terms are evaluated in several copies."""

_MEMBER = "z"


class Term:
    """An array of the moved members' weights with the groups that permute it, and its part of the objective.

    Slots may share axes: both sides of a grouped convolution have the axis of the convolution's groups.
    """

    def __init__(
        self, weights: Tensor, slots: Sequence[GroupAxes], dtype: torch.dtype, reference: Tensor | None = None
    ) -> None:
        """`weights` is (members, …) in any precision; products have the given one. The axes of slots do not count the members'.

        `reference` is the array of a further member, which is not moved; then only one member is.
        """
        self.weights = weights
        self.dtype = dtype
        self.slots = slots
        self.reference = reference
        moved = {axis for slot in slots for axis in slot.axes}
        self._columns = "".join(chr(ord("a") + axis) for axis in range(weights.ndim - 1))
        self._rows = "".join(letter.upper() if axis in moved else letter for axis, letter in enumerate(self._columns))

    @property
    def degree(self) -> int:
        """The degree of the part of the objective, as a polynomial in the step size."""
        if self.reference is not None:
            return len(self.slots)
        return 2 * len(self.slots)

    def value(self, point: Point) -> float:
        """Return the part of the objective at a point."""
        _, array = self._applied(point, range(len(self.slots)))
        if self.reference is not None:
            return 2 * _inner_product(self.reference.to(self.dtype), array[0])
        total = array.sum(0)
        return _inner_product(total, total) - _inner_product(array, array)

    def linearized(self, point: Point) -> tuple[float, list[tuple[int, Tensor]]]:
        """Return the part at a point, and its gradient by the matrices of each slot as (group, (members, units, units))."""
        last = len(self.slots) - 1
        letters, rest = self._applied(point, range(last))
        if self.reference is not None:
            others = self.reference[None].to(self.dtype)
            group, gain = self._gain(last, others, letters, rest)
            value = _inner_product(gain, dense(point[group], self.dtype))  # the part is linear in each slot
        else:
            _, current = self._after_slot(letters, rest, self.slots[last], set(), point)
            total = current.sum(0)
            value = _inner_product(total, total) - _inner_product(current, current)
            others = current.neg_().add_(total)
            group, gain = self._gain(last, others, letters, rest)
        gains = [(group, gain)]
        del rest  # memory for the next products
        for k in range(last):
            letters, rest = self._applied(point, [j for j in range(last + 1) if j != k])
            gains.append(self._gain(k, others, letters, rest))
        return value, gains

    def _gain(self, k: int, others: Tensor, letters: str, rest: Tensor) -> tuple[int, Tensor]:
        """Return a slot's group and gradient, from the sum of the other members and the weights after all other slots."""
        slot = self.slots[k]
        gain = torch.einsum(f"{_MEMBER}{self._rows},{letters}->{_MEMBER}{self._matrix(slot)}", others, rest)
        units = math.prod(self.weights.shape[1 + axis] for axis in slot.axes)
        return slot.group, 2 * gain.reshape(-1, units, units)

    def _matrix(self, slot: GroupAxes) -> str:
        """Return the letters of a slot's rows and columns, in Einstein's notation."""
        return "".join(self._rows[axis] for axis in slot.axes) + "".join(self._columns[axis] for axis in slot.axes)

    def _applied(self, point: Point, chosen: Sequence[int]) -> tuple[str, Tensor]:
        """Return the weights after the matrices of each chosen slot are applied, and the letters of their axes.

        A row of a slot's matrices has an upper-case letter.
        """
        letters = _MEMBER + self._columns
        array = self.weights.to(self.dtype)
        waiting = set(range(len(self.slots)))
        for k in chosen:
            waiting.discard(k)
            shared = {axis for j in waiting for axis in self.slots[j].axes}
            letters, array = self._after_slot(letters, array, self.slots[k], shared, point)
        return letters, array

    def _after_slot(self, letters: str, array: Tensor, slot: GroupAxes, shared: set[int], point: Point) -> tuple[str, Tensor]:
        """Return an array after the matrices of a slot are applied. Columns of axes that other slots share remain."""
        after = letters
        for axis in slot.axes:
            row, column = self._rows[axis], self._columns[axis]
            after = after.replace(row, "")
            after = after.replace(column, row + column if axis in shared else row)
        entry = point[slot.group]
        if len(slot.axes) == 1 and not shared & set(slot.axes) and not entry.is_floating_point():
            return after, _gathered(array, entry, letters.index(self._columns[slot.axes[0]]))
        sizes = [self.weights.shape[1 + axis] for axis in slot.axes]
        matrices = dense(entry, array.dtype).reshape(-1, *sizes, *sizes)
        matrix_letters = _MEMBER + self._matrix(slot)
        if slot.axes[0] == 0:
            return after, torch.einsum(f"{matrix_letters},{letters}->{after}", matrices, array)
        return after, torch.einsum(f"{letters},{matrix_letters}->{after}", array, matrices)


def terms(symmetry: Symmetry, states: Sequence[StateDict], dtype: torch.dtype) -> list[Term]:
    """Return the terms of the objective. All members are moved, but of two only the second one.

    An array with at most two slots that share no axis is (members, units, rest) or (members, units, rest, units). Arrays of the
    same groups are joined along `rest`, unless they are large.
    """
    found: list[Term] = []
    joined: dict[tuple[int, ...], list[Tensor]] = {}
    largest = sum(math.prod(shape) for shape in symmetry.shapes.values()) * JOINED_SHARE
    for block in symmetry.blocks:
        if not block.counts:
            continue
        slots = innermost_groups(symmetry, block, range(len(symmetry.groups)))
        slots.sort(key=lambda slot: slot.group)
        views = [block.view(state[block.parameter]) for state in states]
        axes = [axis for slot in slots for axis in slot.axes]
        if len(slots) > 2 or len(set(axes)) < len(axes):
            found.append(_term(torch.stack(views), slots, dtype))
            continue
        array = _arranged(views, block, slots)
        if array[0].numel() > largest:
            found.append(_term(array, _ends(slots), dtype))
        else:
            joined.setdefault(tuple(slot.group for slot in slots), []).append(array)
    for groups, arrays in joined.items():
        found.append(_term(torch.cat(arrays, 2), _ends([GroupAxes(group, []) for group in groups]), dtype))
    return found


def _ends(slots: Sequence[GroupAxes]) -> list[GroupAxes]:
    """Return the slots of an array (members, units, rest) or (members, units, rest, units)."""
    return [GroupAxes(slot.group, [2 * number]) for number, slot in enumerate(slots)]


def _term(weights: Tensor, slots: Sequence[GroupAxes], dtype: torch.dtype) -> Term:
    """Return the term of an array of all members, (members, …)."""
    if len(weights) == 2:
        return Term(weights[1:], slots, dtype, weights[0])
    return Term(weights, slots, dtype)


def _arranged(views: Sequence[Tensor], block: Block, slots: Sequence[GroupAxes]) -> Tensor:
    """Return a block of all members as (members, units, rest) or (members, units, rest, units)."""
    first, *second = [slot.axes for slot in slots]
    last = second[0] if second else []
    rest = [axis for axis in range(len(block.factors)) if axis not in (*first, *last)]
    shape = [math.prod(block.factors[axis].size for axis in axes) for axes in (first, rest, *second)]
    return torch.stack([view.permute(*first, *rest, *last).reshape(shape) for view in views])


def _gathered(array: Tensor, units: Tensor, axis: int) -> Tensor:
    """Return an array (members, …) with every member's units in a new order along an axis; units (members, count)."""
    moved = [part.index_select(axis - 1, order) for part, order in zip(array, units, strict=True)]
    return torch.stack(moved)


def _inner_product(a: Tensor, b: Tensor) -> float:
    """Return the sum of products, accumulated in float64."""
    return float((a * b).sum(dtype=torch.float64))
