"""Convert the indices of parameters to a `Symmetry`: its groups, and the blocks of parameters that the groups permute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from harness_basin.matching.index_algebra.indices import Index, contexts, factors
from harness_basin.matching.index_algebra.positions import at
from harness_basin.matching.index_algebra.tying import drop_ambiguous_contexts, drop_context
from harness_basin.matching.symmetry import Block, Factor, Group, Symmetry


@dataclass(frozen=True)
class _Part:
    """An index along an axis of a parameter: one unit is `stride` elements."""

    axis: int
    stride: int
    index: Index


def symmetry_of_axes(
    axes_by_name: Mapping[str, list[Index]],
    shapes: Mapping[str, tuple[int, ...]],
    counted: set[str],
    numbers: dict[Index, int] | None = None,
) -> Symmetry:
    """Return the symmetry of parameters whose axes have the given indices.

    Every free index is a group, and its contexts are the groups that it is within. `counted` names the parameters whose
    blocks count in the objective. `numbers`, if given, gets the number of every index's group.
    """
    groups = _Groups({} if numbers is None else numbers)
    blocks: list[Block] = []
    for name, axes in axes_by_name.items():
        drop_ambiguous_contexts(axes)
        _drop_mutual_contexts(axes)
        for offset, parts in _expand(_whole(axes, shapes[name]), 0):
            found = []
            for part in parts:
                group = groups.number(part.index, f"{name}[{part.axis}]")
                found.append(Factor(part.axis, part.index.size, part.stride, group))
            if any(factor.group is not None for factor in found):
                blocks.append(Block(name, offset, _merge_fixed(found), name in counted))
    permuted = {block.parameter: shapes[block.parameter] for block in blocks}
    return Symmetry(tuple(groups.found), tuple(blocks), permuted)


def blocks_of_activation(axes: Sequence[Index], shape: Sequence[int], numbers: Mapping[Index, int]) -> list[Block]:
    """Return the blocks of an activation whose axes have the given indices. `numbers` has the groups of indices.

    They name no parameter and do not count in the objective. Factors without a group are not merged.
    """
    drop_ambiguous_contexts(axes)
    blocks = []
    for offset, parts in _expand(_whole(axes, shape), 0):
        found = [Factor(part.axis, part.index.size, part.stride, numbers.get(part.index)) for part in parts]
        blocks.append(Block("", offset, tuple(found), counts=False))
    return blocks


def _whole(axes: Sequence[Index], shape: Sequence[int]) -> list[_Part]:
    """Return one part per axis of a contiguous array."""
    strides = torch.empty(tuple(shape), device="meta").stride()
    return [_Part(k, stride, axis) for k, (stride, axis) in enumerate(zip(strides, axes))]


class _Groups:
    """Numbers the groups in the order in which their indices are met."""

    def __init__(self, numbers: dict[Index, int]) -> None:
        self.found: list[Group] = []
        self._numbers = numbers

    def number(self, index: Index, name: str) -> int | None:
        """Return the number of an index's group, or None for a fixed index. `name` is used for a new group."""
        if index.form == "fixed":
            return None
        if index not in self._numbers:
            within = []
            for outer in sorted(contexts(index), key=lambda context: len(contexts(context))):
                outer_number = self.number(outer, name)
                if outer_number is not None:
                    within.append(outer_number)
            self._numbers[index] = len(self.found)
            self.found.append(Group(name, index.size, tuple(within)))
        return self._numbers[index]


def _drop_mutual_contexts(axes: Sequence[Index]) -> None:
    """Of two indices that are over one another, make the first one independent."""
    for axis in axes:
        for index in factors(axis):
            for context in contexts(index):
                if index in contexts(context):
                    drop_context(index, context)


def _expand(parts: Sequence[_Part], offset: int) -> Iterator[tuple[int, list[_Part]]]:
    """Expand products into factors, sums into one block per term, and families into one block per position.

    Yield (offset, parts) per block.
    """
    flat: list[_Part] = []
    for part in parts:
        flat += _factor_parts(part)
    for k, part in enumerate(flat):
        if part.index.form == "sum":
            start = offset
            for term in part.index.parts:
                yield from _expand([*flat[:k], replace(part, index=term), *flat[k + 1 :]], start)
                start += term.size * part.stride
            return
        position = _fixed_context(part.index)
        if position is not None:
            (outer,) = [other for other in flat if other.index is position]
            rest = [other for other in flat if other is not outer]
            for i in range(position.size):
                selected = [replace(other, index=at(other.index, position, i)) for other in rest]
                yield from _expand(selected, offset + i * outer.stride)
            return
    yield offset, flat


def _factor_parts(part: _Part) -> list[_Part]:
    """Return one part per irreducible factor of an index, outermost first."""
    stride = part.stride
    found: list[_Part] = []
    for factor in reversed(factors(part.index)):
        found.insert(0, _Part(part.axis, stride, factor))
        stride *= factor.size
    return found


def _fixed_context(index: Index) -> Index | None:
    for context in contexts(index):
        if context.form == "fixed":
            return context
    return None


def _merge_fixed(found: Sequence[Factor]) -> tuple[Factor, ...]:
    """Merge adjacent factors of an axis that no group permutes."""
    merged: list[Factor] = []
    for factor in found:
        outer = merged[-1] if merged else None
        if outer and factor.group is None and outer == replace(factor, size=outer.size, stride=factor.size * factor.stride):
            merged[-1] = replace(factor, size=outer.size * factor.size)
        else:
            merged.append(factor)
    return tuple(merged)
