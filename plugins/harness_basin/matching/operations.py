"""What torch's operations do to indices: one rule an operation, at the level of aten; knows nothing of permutations.

A rule reads the indices of an operation's array arguments, ties those that the operation pairs, fixes those whose order it
uses, and returns the indices of its results. An operation without a rule is refused by name, unless nothing it reads can be
permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness_basin.matching.indices import (
    Index,
    fix,
    fixed,
    is_fixed,
    settle,
    tie_all,
)

Axes = list[Index]
Rule = Callable[["Operation"], Sequence[Axes]]


class Rules(dict[str, Rule]):
    """Rules by the names of operations, without `aten::` and without the `_` of those that write in place."""

    def of(self, *names: str) -> Callable[[Rule], Rule]:
        """Return a decorator that enters a rule under these names."""

        def enter(rule: Rule) -> Rule:
            self.update(dict.fromkeys(names, rule))
            return rule

        return enter


RULES = Rules()


class Operation:
    """One call of an aten operation: arguments by name, defaults filled in, and what it returned."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], axes_of: Callable[[Tensor], Axes]) -> None:
        self.name: str = function._schema.name.removeprefix("aten::")
        self.overload: str = str(function)
        self.axes_of = axes_of
        self.writes = self.name.endswith("_") and not self.name.endswith("__")
        self.pointwise = torch.Tag.pointwise in function.tags
        given = dict(zip((a.name for a in function._schema.arguments), args)) | kwargs
        self.arguments = {a.name: given.get(a.name, a.default_value) for a in function._schema.arguments}
        if self.name == "as_strided_":
            self.arguments["old_stride"] = self["self"].stride()
        self.results: tuple[Tensor, ...] = ()

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def tensors(self) -> list[Tensor]:
        """Return all array arguments, in order."""
        values = [v for a in self.arguments.values() for v in (a if isinstance(a, (list, tuple)) else [a])]
        return [value for value in values if isinstance(value, Tensor)]

    def axes(self, argument: str = "self") -> Axes:
        """Return the indices of an array argument."""
        return list(self.axes_of(self[argument]))

    def dim(self, value: int | None, rank: int | None = None) -> int:
        """Return an axis number that counts from the front."""
        assert value is not None
        return value % max(rank or self["self"].dim(), 1)

    def dims(self, value: Sequence[int] | int | None, rank: int | None = None) -> set[int]:
        """Return axis numbers that count from the front; all axes for None or an empty list."""
        rank = self["self"].dim() if rank is None else rank
        values = [value] if isinstance(value, int) else list(value or range(rank))
        return {self.dim(v, rank) for v in values}


def unknown(tensor: Tensor) -> Axes:
    """Return the indices of a parameter of which nothing is known yet; positions (integers) are fixed."""
    return unconstrained(tensor.shape) if tensor.is_floating_point() else [fixed(size) for size in tensor.shape]


def outside(tensor: Tensor) -> Axes:
    """Return the indices of an array that is not a parameter: fixed, but along axes on which its values are all the same."""
    axes = unconstrained(tensor.shape)
    for dim, axis in enumerate(axes):
        if not torch.equal(tensor, tensor.narrow(dim, 0, min(1, axis.size)).expand_as(tensor)):
            fix(axis)
    return axes


def apply(operation: Operation, rules: Mapping[str, Rule]) -> Sequence[Axes] | None:
    """Return the indices of the results, or None for an operation that is not understood."""
    name = operation.name.rstrip("_") if operation.writes else operation.name
    reads = [operation.axes_of(tensor) for tensor in operation.tensors()]
    rule = rules.get(name) or (pointwise if operation.pointwise else None)
    if rule is None and all(is_fixed(axis) for axes in reads for axis in axes):
        rule = _constant
    if rule is None or operation.overload.endswith("out"):
        return None
    try:
        results = rule(operation)
    except NotImplementedError:
        return None
    if operation.writes:
        tie_all(zip(operation.axes(), results[0]))
    for axes in results:
        settle(axes)
    return results


def unconstrained(shape: Iterable[int]) -> Axes:
    """Return new indices, each over all the others: nothing is known of the array yet."""
    axes = [Index(size) for size in shape]
    for axis in axes:
        axis.over = tuple(other for other in axes if other is not axis)
    return axes


def broadcast(operands: Sequence[Axes]) -> Axes:
    """Tie the axes that broadcasting pairs; return the result's."""
    rank = max(map(len, operands))
    padded = [[fixed(1)] * (rank - len(axes)) + list(axes) for axes in operands]
    columns = [[axis for axis in column if axis.size != 1] or column for column in zip(*padded)]
    tie_all((column[0], other) for column in columns for other in column[1:] if other.size == column[0].size)
    return [column[0] for column in columns]


@RULES.of(
    *("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "copy", "fill", "zero"),
    *("hardswish", "where", "masked_fill", "rsub", "_prelu_kernel"),
)
def pointwise(op: Operation) -> Sequence[Axes]:
    """Act on every value alike; also what torch itself marks as pointwise."""
    return [broadcast([op.axes_of(tensor) for tensor in op.tensors()])]


def _constant(op: Operation) -> Sequence[Axes]:
    return [[fixed(size) for size in result.shape] for result in op.results]


@RULES.of(
    *("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
)
def _filled(op: Operation) -> Sequence[Axes]:
    """One value everywhere: permuting changes nothing."""
    return [unconstrained(op.results[0].shape)]
