"""Rules for reductions, and for operations that normalize along axes."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.indices import (
    fix,
    fixed,
    product,
    reshape,
    settle,
    tie,
    tie_all,
)
from harness_basin.matching.operations import Axes, Operation, Rules, pointwise

RULES = Rules()


def without(axes: Axes, dims: set[int], keep: bool) -> Axes:
    reduced = [fixed(1) if i in dims else axis for i, axis in enumerate(axes) if keep or i not in dims]
    settle(reduced)
    return reduced


@RULES.of(
    *("mean", "sum", "amax", "amin", "var", "std", "prod", "any", "all", "var_mean", "std_mean"),
    *("logsumexp", "linalg_vector_norm", "norm"),
)
def _reduction(op: Operation) -> Sequence[Axes]:
    dims = op.dims(op.arguments.get("dim"))
    return [without(op.axes(), dims, bool(op.arguments.get("keepdim", False)))] * len(op.results)


@RULES.of("max", "min", "median", "argmax", "argmin")
def _selecting_reduction(op: Operation) -> Sequence[Axes]:
    """The largest value does not depend on the order, the place where it stands does."""
    if "other" in op.arguments:
        return pointwise(op)
    axes, dims = op.axes(), op.dims(op.arguments.get("dim"))
    if len(op.results) > 1 or op.name.startswith("arg"):
        for dim in dims:
            fix(axes[dim])
    return [without(axes, dims, bool(op.arguments.get("keepdim", False)))] * len(op.results)


@RULES.of("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def _softmax(op: Operation) -> Sequence[Axes]:
    without(op.axes(), {op.dim(op["dim"])}, keep=True)
    return [op.axes()]


@RULES.of("cumsum", "cumprod", "flip", "roll", "sort")
def _ordered(op: Operation) -> Sequence[Axes]:
    axes = op.axes()
    for dim in op.dims(op.arguments.get("dims", op.arguments.get("dim"))):
        fix(axes[dim])
    return [axes] * len(op.results)


@RULES.of("native_layer_norm", "layer_norm")
def _layer_norm(op: Operation) -> Sequence[Axes]:
    axes, rank = op.axes("input"), len(op["normalized_shape"])
    for name in ("weight", "bias"):
        if op[name] is not None:
            tie_all(zip(axes[-rank:], op.axes(name)))
    reduced = without(axes, set(range(len(axes) - rank, len(axes))), keep=True)
    return [axes, reduced, reduced][: len(op.results)]


@RULES.of(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "miopen_batch_norm", "batch_norm"),
)
def _batch_norm(op: Operation) -> Sequence[Axes]:
    axes = op.axes("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if op.arguments.get(name) is not None:
            tie(axes[1], op.axes(name)[0])
    without(axes, {0, *range(2, len(axes))}, keep=True)
    return [axes, *([fixed(n) for n in result.shape] for result in op.results[1:])]


@RULES.of("native_group_norm")
def _group_norm(op: Operation) -> Sequence[Axes]:
    axes = op.axes("input")
    channels = axes[1].size
    group, unit = reshape([axes[1]], (op["group"], channels // op["group"]))
    for name in ("weight", "bias"):
        if op[name] is not None:
            tie(product([group, unit]), op.axes(name)[0])
    reduced = [axes[0], group]
    settle(reduced)
    return [axes, reduced, reduced]
