"""Rules for operations that move values without changing them (views, cuts, pads, look-ups), and for those on image planes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness_basin.matching.indices import (
    Index,
    at,
    concatenation,
    cut,
    factors,
    fix,
    fixed,
    is_fixed,
    product,
    reshape,
    tie,
)
from harness_basin.matching.operations import Axes, Operation, Rules, broadcast, unconstrained

RULES = Rules()


@RULES.of("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten", "unsqueeze", "squeeze")
def _reshape(op: Operation) -> Sequence[Axes]:
    return [reshape(op.axes(), op.results[0].shape)]


@RULES.of("as_strided")
def _as_strided(op: Operation) -> Sequence[Axes]:
    """Pooling rewrites strides of axes of size 1 in place; anything else reads storage behind the axes' back."""
    tensor = op["self"]
    same = tuple(op["size"]) == tuple(tensor.shape) and op.writes
    if not same or any(size > 1 and new != old for size, new, old in zip(op["size"], op["stride"], op["old_stride"])):
        raise NotImplementedError
    return [op.axes()]


@RULES.of("permute")
def _permute(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    return [[axes[op.dim(d)] for d in op["dims"]]]


@RULES.of("transpose", "t", "swapaxes", "swapdims")
def _transpose(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    if len(axes) > 1:
        i, j = op.dim(op.arguments.get("dim0", 0)), op.dim(op.arguments.get("dim1", 1))
        axes[i], axes[j] = axes[j], axes[i]
    return [axes]


@RULES.of("expand", "expand_as")
def _expand(op: Operation) -> Sequence[Axes]:
    shape = op.results[0].shape
    axes = [fixed(1)] * (len(shape) - op["self"].dim()) + op.axes()
    return [_repeated(axes, [n if axis.size == 1 else 1 for axis, n in zip(axes, shape)])]


@RULES.of("repeat")
def _repeat(op: Operation) -> Sequence[Axes]:
    axes = [fixed(1)] * (len(op["repeats"]) - op["self"].dim()) + op.axes()
    return [_repeated(axes, op["repeats"])]


def _repeated(axes: Axes, times: Sequence[int]) -> Axes:
    """Return axes whose content is the same along a new outer factor, which anything may therefore permute."""
    copies = unconstrained(times)
    result = []
    for copy, axis in zip(copies, axes):
        copy.over = (*copy.over, *(f for other in axes for f in factors(other)))
        result.append(axis if copy.size == 1 else copy if axis.size == 1 else product([copy, axis]))
    return result


@RULES.of("select")
def _select(op: Operation) -> Sequence[Axes]:
    dim = op.dim(op["dim"])
    return [_chosen(op.axes(), dim, op["index"] % op["self"].shape[dim])]


@RULES.of("unbind")
def _unbind(op: Operation) -> Sequence[Axes]:
    dim = op.dim(op["dim"])
    return [_chosen(op.axes(), dim, i) for i in range(op["self"].shape[dim])]


def _chosen(axes: Axes, dim: int, i: int) -> Axes:
    """Return the other axes where one axis has the value i."""
    chosen = axes.pop(dim)
    fix(chosen)
    for factor in reversed(factors(chosen)):
        i, j = divmod(i, factor.size)
        axes = [at(axis, factor, j) for axis in axes]
    return axes


@RULES.of("slice", "narrow")
def _slice(op: Operation) -> Sequence[Axes]:
    axes, dim = op.axes(), op.dim(op["dim"])
    size, length = op["self"].shape[dim], op.results[0].shape[dim]
    if op.arguments.get("step", 1) != 1:
        fix(axes[dim])
        axes[dim] = fixed(length)
    else:
        start = op["start"] or 0
        start = min(start + size if start < 0 else start, size)
        axes[dim] = cut(axes[dim], (start, length, size - start - length))[1]
    return [axes]


@RULES.of("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk")
def _split(op: Operation) -> Sequence[Axes]:
    axes, dim = op.axes(), op.dim(op["dim"])
    pieces = cut(axes[dim], [result.shape[dim] for result in op.results])
    return [[*axes[:dim], piece, *axes[dim + 1 :]] for piece in pieces]


@RULES.of("cat")
def _cat(op: Operation) -> Sequence[Axes]:
    arrays = [op.axes_of(tensor) for tensor in op["tensors"] if tensor.shape != (0,)]
    dim = op.dim(op["dim"], len(arrays[0]))
    rest = broadcast([[*axes[:dim], fixed(1), *axes[dim + 1 :]] for axes in arrays])
    return [[*rest[:dim], concatenation([axes[dim] for axes in arrays]), *rest[dim + 1 :]]]


@RULES.of("stack")
def _stack(op: Operation) -> Sequence[Axes]:
    arrays = [op.axes_of(tensor) for tensor in op["tensors"]]
    dim = op.dim(op["dim"], len(arrays[0]) + 1)
    rest = broadcast(arrays)
    return [[*rest[:dim], fixed(len(arrays)), *rest[dim:]]]


@RULES.of("constant_pad_nd")
def _pad(op: Operation) -> Sequence[Axes]:
    axes, pads = op.axes(), list(op["pad"])
    for dim, (before, after) in zip(range(len(axes) - 1, -1, -1), zip(pads[::2], pads[1::2])):
        if min(before, after) < 0:
            fix(axes[dim])
        terms = [axes[dim] if n is None else Index(n) for n in (before or 0, None, after or 0) if n != 0]
        axes[dim] = fixed(op.results[0].shape[dim]) if is_fixed(axes[dim]) else concatenation(terms)
    return [axes]


@RULES.of("index", "index_select", "embedding")
def _indexing(op: Operation) -> Sequence[Axes]:
    """Rows picked by position: their order is used. Arrays of positions stand side by side, or there is only one."""
    if op.name == "index":
        positions = {dim: tensor for dim, tensor in enumerate(op["indices"]) if tensor is not None}
        axes = op.axes()
    elif op.name == "embedding":
        positions, axes = {0: op["indices"]}, op.axes("weight")
    else:
        positions, axes = {op.dim(op["dim"]): op["index"]}, op.axes()
    for tensor in positions.values():
        for axis in op.axes_of(tensor):
            fix(axis)
    first, last = min(positions), max(positions)
    if last - first + 1 != len(positions) or any(tensor.dtype in (torch.bool, torch.uint8) for tensor in positions.values()):
        raise NotImplementedError
    for dim in positions:
        fix(axes[dim])
    picked = op.results[0].shape[first : len(op.results[0].shape) - len(axes) + last + 1]
    return [[*axes[:first], *(fixed(size) for size in picked), *axes[last + 1 :]]]


@RULES.of("unfold")
def _windows(op: Operation) -> Sequence[Axes]:
    axes, dim = op.axes(), op.dim(op["dimension"])
    fix(axes[dim])
    axes[dim] = fixed(op.results[0].shape[dim])
    return [[*axes, fixed(op["size"])]]


@RULES.of("pixel_shuffle", "pixel_unshuffle", "im2col", "col2im")
def _space_and_channels(op: Operation) -> Sequence[Axes]:
    """Pixels move into the channel axis (channels × pixels) or out of it."""
    axes, result = op.axes(), op.results[0].shape
    dim = len(axes) - (2 if op.name == "col2im" else 3)
    for axis in axes[dim + 1 :]:
        fix(axis)
    channels, new = axes[dim], result[dim]
    if new >= channels.size:
        axis = product([channels, fixed(new // channels.size)])
    else:
        axis, pixel = reshape([channels], (new, channels.size // new))
        fix(pixel)
    return [[*axes[:dim], axis, *(fixed(size) for size in result[dim + 1 :])]]


@RULES.of("glu")
def _glu(op: Operation) -> Sequence[Axes]:
    axes, dim = op.axes(), op.dim(op["dim"])
    half = axes[dim].size // 2
    gated, gate = cut(axes[dim], (half, half))
    tie(gated, gate)
    return [[*axes[:dim], gated, *axes[dim + 1 :]]]


@RULES.of(
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "avg_pool1d"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d"),
)
def _spatial(op: Operation) -> Sequence[Axes]:
    """Act on every image plane alike; the planes are all axes but the last one (…1d), two or three."""
    name = "self" if "self" in op.arguments else "input"
    axes, plane = op.axes(name), next(n for n in (1, 2, 3) if f"{n}d" in op.name)
    for axis in axes[-plane:]:
        fix(axis)
    return [[*axes[:-plane], *(fixed(size) for size in result.shape[-plane:])] for result in op.results]
