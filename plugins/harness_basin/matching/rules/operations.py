"""Effects of aten operations on indices: the type of a rule, one rule per operation. Knows nothing of permutations.

A rule reads the indices of an operation's array arguments. It ties the indices that the operation pairs, fixes those whose
order the operation uses, and returns the indices of the results. An operation without a rule is refused by name, unless
everything that it reads is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness_basin.matching.index_algebra.indices import Index, fix, fixed, fixed_axes, is_fixed, without
from harness_basin.matching.index_algebra.tying import drop_ambiguous_contexts, tie_all

Axes = list[Index]
Rule = Callable[["Operation"], Sequence[Axes]]


class Rules(dict[str, Rule]):
    """Rules by operation name, without the prefix `aten::` and without the suffix `_` of in-place operations."""

    def register(self, *names: str) -> Callable[[Rule], Rule]:
        """Return a decorator that registers a rule under these names."""

        def decorate(rule: Rule) -> Rule:
            self.update(dict.fromkeys(names, rule))
            return rule

        return decorate


RULES = Rules()


class Operation:
    """One call of an aten operation: its arguments by name, with defaults, its results, and the module that called it.

    `axes_of` returns the indices of an array. `writes` says whether the operation works in place.
    """

    def __init__(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], axes_of: Callable[[Tensor], Axes]) -> None:
        self.name: str = function._schema.name.removeprefix("aten::")
        self.overload: str = str(function)
        self.axes_of = axes_of
        self.writes = self.name.endswith("_") and not self.name.endswith("__")
        self.pointwise = torch.Tag.pointwise in function.tags
        self.arguments: dict[str, Any] = {}
        for number, parameter in enumerate(function._schema.arguments):
            value = kwargs.get(parameter.name, parameter.default_value)
            if number < len(args):
                value = args[number]
            self.arguments[parameter.name] = value
        if self.name == "as_strided_":
            self.arguments["old_stride"] = self["self"].stride()
        self.results: tuple[Tensor, ...] = ()
        self.module = ""

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def tensors(self) -> list[Tensor]:
        """Return all array arguments, in order."""
        found = []
        for argument in self.arguments.values():
            values = argument if isinstance(argument, (list, tuple)) else [argument]
            found += [value for value in values if isinstance(value, Tensor)]
        return found

    def axes_of_all(self, tensors: Iterable[Tensor]) -> list[Axes]:
        """Return the indices of several arrays."""
        return [self.axes_of(tensor) for tensor in tensors]

    def fixed_results(self) -> list[Axes]:
        """Return fixed indices for every result."""
        return [fixed_axes(result.shape) for result in self.results]

    def axes(self, argument: str = "self") -> Axes:
        """Return the indices of an array argument."""
        return list(self.axes_of(self[argument]))

    def dim(self, value: int | None, rank: int | None = None) -> int:
        """Return a dimension counted from the front. `rank` defaults to the rank of `self`."""
        assert value is not None
        return value % max(rank or self["self"].dim(), 1)

    def dims(self, value: Sequence[int] | int | None, rank: int | None = None) -> set[int]:
        """Return dimensions counted from the front; all dimensions for None or an empty list."""
        if rank is None:
            rank = self["self"].dim()
        if isinstance(value, int):
            return {self.dim(value, rank)}
        return {self.dim(dim, rank) for dim in value or range(rank)}


def apply(operation: Operation, rules: Mapping[str, Rule]) -> Sequence[Axes] | None:
    """Return the indices of the results, or None for an unsupported operation."""
    rule = _rule(operation, rules)
    if rule is None or operation.overload.endswith("out"):
        return None
    try:
        results = rule(operation)
    except NotImplementedError:
        return None
    if operation.writes:
        tie_all(zip(operation.axes(), results[0]))
    for axes in results:
        drop_ambiguous_contexts(axes)
    return results


def _rule(operation: Operation, rules: Mapping[str, Rule]) -> Rule | None:
    """Return the rule registered for an operation, or a default for pointwise operations and for fixed arguments."""
    arguments = operation.axes_of_all(operation.tensors())
    name = operation.name.rstrip("_") if operation.writes else operation.name
    if name in rules:
        return rules[name]
    if operation.pointwise:
        return pointwise
    for axes in arguments:
        if not all(map(is_fixed, axes)):
            return None
    return _constant


def parameter_axes(tensor: Tensor) -> Axes:
    """Return the initial indices of a parameter or buffer: fixed for integers, which may be positions, else unconstrained."""
    if tensor.is_floating_point():
        return unconstrained(tensor.shape)
    return fixed_axes(tensor.shape)


def constant_axes(tensor: Tensor) -> Axes:
    """Return the indices of an array that is no parameter: fixed, except along dimensions in which all its values are equal."""
    axes = unconstrained(tensor.shape)
    for dim, axis in enumerate(axes):
        first = tensor.narrow(dim, 0, min(1, axis.size))
        if not torch.equal(tensor, first.expand_as(tensor)):
            fix(axis)
    return axes


def unconstrained(shape: Iterable[int]) -> Axes:
    """Return new free indices, each over all the others."""
    axes = [Index(size) for size in shape]
    for axis in axes:
        axis.over = tuple(without(axes, axis))
    return axes


def broadcast(operands: Sequence[Axes]) -> Axes:
    """Tie the axes that broadcasting pairs; return the axes of the result."""
    rank = max(map(len, operands))
    padded = [[fixed(1)] * (rank - len(axes)) + list(axes) for axes in operands]
    pairs: list[tuple[Index, Index]] = []
    result = []
    for column in zip(*padded):
        expanded = [axis for axis in column if axis.size != 1] or column
        first = expanded[0]
        pairs += [(first, other) for other in expanded[1:] if other.size == first.size]
        result.append(first)
    tie_all(pairs)
    return result


@RULES.register(
    *("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "copy", "fill", "zero"),
    *("hardswish", "where", "masked_fill", "rsub", "_prelu_kernel"),
)
def pointwise(op: Operation) -> Sequence[Axes]:
    """Treat every element alike. This is also the rule of all operations that torch tags as pointwise."""
    return [broadcast(op.axes_of_all(op.tensors()))]


def _constant(op: Operation) -> Sequence[Axes]:
    """Return fixed axes: the arguments are fixed."""
    return op.fixed_results()


@RULES.register(
    *("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
)
def _filled(op: Operation) -> Sequence[Axes]:
    """Return unconstrained axes: all elements are equal."""
    return [unconstrained(op.results[0].shape)]
