"""Rules for operations that move elements without changing them: views, slices, concatenation, indexing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness_basin.matching.index_algebra.cutting import cut
from harness_basin.matching.index_algebra.indices import (
    all_factors,
    concatenation,
    factors,
    fix,
    fixed,
    fixed_axes,
    product,
)
from harness_basin.matching.index_algebra.positions import all_at
from harness_basin.matching.index_algebra.reshaping import reshape
from harness_basin.matching.index_algebra.tying import tie
from harness_basin.matching.rules.operations import Axes, Operation, Rules, broadcast, unconstrained

RULES = Rules()


@RULES.register("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "unsqueeze", "squeeze")
def _reshape(op: Operation) -> Sequence[Axes]:
    return [reshape(op.axes(), op.results[0].shape)]


@RULES.register("as_strided")
def _as_strided(op: Operation) -> Sequence[Axes]:
    """Accept an in-place change of the strides of axes of size 1, as pooling does. Any other use reads arbitrary elements."""
    same_shape = tuple(op["size"]) == tuple(op["self"].shape)
    if not same_shape or not op.writes:
        raise NotImplementedError
    for size, stride, old_stride in zip(op["size"], op["stride"], op["old_stride"]):
        if size > 1 and stride != old_stride:
            raise NotImplementedError
    return [op.axes()]


@RULES.register("permute")
def _permute(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    return [[axes[op.dim(dim)] for dim in op["dims"]]]


@RULES.register("transpose", "t", "swapaxes", "swapdims")
def _transpose(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    if len(axes) > 1:
        i = op.dim(op.arguments.get("dim0", 0))
        j = op.dim(op.arguments.get("dim1", 1))
        axes[i], axes[j] = axes[j], axes[i]
    return [axes]


@RULES.register("expand", "expand_as")
def _expand(op: Operation) -> Sequence[Axes]:
    shape = op.results[0].shape
    axes = [fixed(1)] * (len(shape) - op["self"].dim()) + op.axes()
    repeats = []
    for axis, size in zip(axes, shape):
        repeats.append(size if axis.size == 1 else 1)
    return [_repeated(axes, repeats)]


@RULES.register("repeat")
def _repeat(op: Operation) -> Sequence[Axes]:
    repeats = op["repeats"]
    axes = [fixed(1)] * (len(repeats) - op["self"].dim()) + op.axes()
    return [_repeated(axes, repeats)]


def _repeated(axes: Axes, repeats: Sequence[int]) -> Axes:
    """Multiply each axis by a new free outer factor. All copies along it are equal, so it may be permuted."""
    copies = unconstrained(repeats)
    result = []
    for copy, axis in zip(copies, axes):
        copy.over = (*copy.over, *all_factors(axes))
        if copy.size == 1:
            result.append(axis)
        elif axis.size == 1:
            result.append(copy)
        else:
            result.append(product([copy, axis]))
    return result


@RULES.register("select")
def _select(op: Operation) -> Sequence[Axes]:
    dim = op.dim(op["dim"])
    return [_selected(op.axes(), dim, op["index"] % op["self"].shape[dim])]


@RULES.register("unbind")
def _unbind(op: Operation) -> Sequence[Axes]:
    dim = op.dim(op["dim"])
    return [_selected(op.axes(), dim, i) for i in range(op["self"].shape[dim])]


def _selected(axes: Axes, dim: int, i: int) -> Axes:
    """Return the other axes at position i of one axis, which becomes fixed."""
    selected = axes.pop(dim)
    fix(selected)
    for factor in reversed(factors(selected)):
        i, remainder = divmod(i, factor.size)
        axes = all_at(axes, factor, remainder)
    return axes


@RULES.register("slice", "narrow")
def _slice(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    dim = op.dim(op["dim"])
    size = op["self"].shape[dim]
    length = op.results[0].shape[dim]
    if op.arguments.get("step", 1) != 1:
        fix(axes[dim])
        axes[dim] = fixed(length)
        return [axes]
    start = op["start"] or 0
    if start < 0:
        start += size
    start = min(start, size)
    _, axes[dim], _ = cut(axes[dim], (start, length, size - start - length))
    return [axes]


@RULES.register("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk")
def _split(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    dim = op.dim(op["dim"])
    pieces = cut(axes[dim], [result.shape[dim] for result in op.results])
    return [[*axes[:dim], piece, *axes[dim + 1 :]] for piece in pieces]


@RULES.register("cat")
def _cat(op: Operation) -> Sequence[Axes]:
    # torch skips arrays of shape (0,), whatever the rank of the others.
    arrays = op.axes_of_all(tensor for tensor in op["tensors"] if tensor.shape != (0,))
    dim = op.dim(op["dim"], len(arrays[0]))
    rest = broadcast([[*axes[:dim], fixed(1), *axes[dim + 1 :]] for axes in arrays])
    joined = concatenation([axes[dim] for axes in arrays])
    return [[*rest[:dim], joined, *rest[dim + 1 :]]]


@RULES.register("stack")
def _stack(op: Operation) -> Sequence[Axes]:
    arrays = op.axes_of_all(op["tensors"])
    dim = op.dim(op["dim"], len(arrays[0]) + 1)
    rest = broadcast(arrays)
    return [[*rest[:dim], fixed(len(arrays)), *rest[dim:]]]


@RULES.register("index", "index_select", "embedding")
def _indexing(op: Operation) -> Sequence[Axes]:
    """Fix the axes that are indexed by position. Several index arrays have to be at adjacent dimensions."""
    axes = op.axes("weight" if op.name == "embedding" else "self")
    arrays = _index_arrays(op)
    for array in arrays.values():
        for axis in op.axes_of(array):
            fix(axis)
    first = min(arrays)
    last = max(arrays)
    adjacent = last - first + 1 == len(arrays)
    if not adjacent:
        raise NotImplementedError
    for dim, array in arrays.items():
        if array.dtype in (torch.bool, torch.uint8):  # a mask, not positions
            raise NotImplementedError
        fix(axes[dim])
    shape = op.results[0].shape
    after = len(axes) - last - 1
    return [[*axes[:first], *fixed_axes(shape[first : len(shape) - after]), *axes[last + 1 :]]]


def _index_arrays(op: Operation) -> dict[int, Tensor]:
    """Return the arrays of positions by the dimension that they index."""
    if op.name == "embedding":
        return {0: op["indices"]}
    if op.name == "index_select":
        return {op.dim(op["dim"]): op["index"]}
    found = {}
    for dim, array in enumerate(op["indices"]):
        if array is not None:
            found[dim] = array
    return found


@RULES.register("glu")
def _glu(op: Operation) -> Sequence[Axes]:
    """Tie the half that is gated to the half that gates it."""
    axes = op.axes()
    dim = op.dim(op["dim"])
    half = axes[dim].size // 2
    gated, gate = cut(axes[dim], (half, half))
    tie(gated, gate)
    return [[*axes[:dim], gated, *axes[dim + 1 :]]]
