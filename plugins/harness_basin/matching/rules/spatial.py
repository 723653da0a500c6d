"""Rules for operations on image planes: padding, pooling, resizing, windows, and pixels moved to or from channels."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.index_algebra.indices import Index, concatenation, fix, fixed, fixed_axes, is_fixed, product
from harness_basin.matching.index_algebra.reshaping import reshape
from harness_basin.matching.rules.operations import Axes, Operation, Rules

RULES = Rules()


@RULES.register("constant_pad_nd")
def _pad(op: Operation) -> Sequence[Axes]:
    """Concatenate padded axes with free indices, since all padding elements are equal."""
    axes = op.axes()
    pads = op["pad"]
    last_first = range(len(axes) - 1, -1, -1)
    for dim, before, after in zip(last_first, pads[::2], pads[1::2]):
        axes[dim] = _padded(axes[dim], before, after, op.results[0].shape[dim])
    return [axes]


def _padded(axis: Index, before: int, after: int, size: int) -> Index:
    """Return an axis with padding on both sides. Negative padding cuts elements off and fixes the axis."""
    if min(before, after) < 0:
        fix(axis)
    if is_fixed(axis):
        return fixed(size)
    terms = [axis]
    if before:
        terms.insert(0, Index(before))
    if after:
        terms.append(Index(after))
    return concatenation(terms)


@RULES.register("unfold")
def _windows(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    dim = op.dim(op["dimension"])
    fix(axes[dim])
    axes[dim] = fixed(op.results[0].shape[dim])
    return [[*axes, fixed(op["size"])]]


@RULES.register("pixel_shuffle", "pixel_unshuffle", "im2col", "col2im")
def _space_and_channels(op: Operation) -> Sequence[Axes]:
    """Move pixels to or from the channel axis, which is channels × pixels."""
    axes = op.axes()
    shape = op.results[0].shape
    spatial = 1 if op.name == "col2im" else 2
    dim = len(axes) - spatial - 1
    for axis in axes[dim + 1 :]:
        fix(axis)
    channels = axes[dim]
    new_size = shape[dim]
    if new_size >= channels.size:
        axis = product([channels, fixed(new_size // channels.size)])
    else:
        axis, pixel = reshape([channels], (new_size, channels.size // new_size))
        fix(pixel)
    return [[*axes[:dim], axis, *fixed_axes(shape[dim + 1 :])]]


@RULES.register(
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "avg_pool1d"),
    *("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d"),
)
def _planes(op: Operation) -> Sequence[Axes]:
    """Fix the last one, two or three axes, as the operation's name says (1d, 2d, 3d). All other axes are kept."""
    axes = op.axes("self" if "self" in op.arguments else "input")
    spatial = next(n for n in (1, 2, 3) if f"{n}d" in op.name)
    for axis in axes[-spatial:]:
        fix(axis)
    return [[*axes[:-spatial], *fixed_axes(result.shape[-spatial:])] for result in op.results]
