"""Rules for reductions, and for operations that normalize along axes."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.index_algebra.indices import fix, fixed, product
from harness_basin.matching.index_algebra.reshaping import reshape
from harness_basin.matching.index_algebra.tying import drop_ambiguous_contexts, tie, tie_all
from harness_basin.matching.rules.operations import Axes, Operation, Rules, pointwise

RULES = Rules()


def _reduced(axes: Axes, dims: set[int], keep: bool) -> Axes:
    """Return the axes without the reduced ones, or with size 1 in their place (`keep`)."""
    remaining = []
    for dim, axis in enumerate(axes):
        if dim not in dims:
            remaining.append(axis)
        elif keep:
            remaining.append(fixed(1))
    drop_ambiguous_contexts(remaining)
    return remaining


@RULES.register(
    *("mean", "sum", "amax", "amin", "var", "std", "prod", "any", "all", "var_mean", "std_mean"),
    *("logsumexp", "linalg_vector_norm", "norm"),
)
def _reduction(op: Operation) -> Sequence[Axes]:
    dims = op.dims(op.arguments.get("dim"))
    keep = bool(op.arguments.get("keepdim", False))
    return [_reduced(op.axes(), dims, keep)] * len(op.results)


@RULES.register("max", "min", "median", "argmax", "argmin")
def _selecting_reduction(op: Operation) -> Sequence[Axes]:
    """Fix the reduced axes if the operation returns positions. The extreme value itself does not depend on the order."""
    if "other" in op.arguments:
        return pointwise(op)
    axes = op.axes()
    dims = op.dims(op.arguments.get("dim"))
    if len(op.results) > 1 or op.name.startswith("arg"):
        for dim in dims:
            fix(axes[dim])
    keep = bool(op.arguments.get("keepdim", False))
    return [_reduced(axes, dims, keep)] * len(op.results)


@RULES.register("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def _softmax(op: Operation) -> Sequence[Axes]:
    _reduced(op.axes(), {op.dim(op["dim"])}, keep=True)
    return [op.axes()]


@RULES.register("cumsum", "cumprod", "flip", "roll", "sort")
def _ordered(op: Operation) -> Sequence[Axes]:
    """Fix the axes whose order the operation uses."""
    axes = op.axes()
    for dim in op.dims(op.arguments.get("dims", op.arguments.get("dim"))):
        fix(axes[dim])
    return [axes] * len(op.results)


@RULES.register("native_layer_norm", "layer_norm")
def _layer_norm(op: Operation) -> Sequence[Axes]:
    axes = op.axes("input")
    normalized = len(op["normalized_shape"])
    for name in ("weight", "bias"):
        if op[name] is not None:
            tie_all(zip(axes[-normalized:], op.axes(name)))
    statistics = _reduced(axes, set(range(len(axes) - normalized, len(axes))), keep=True)
    return [axes, statistics, statistics][: len(op.results)]


@RULES.register(
    *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    *("cudnn_batch_norm", "miopen_batch_norm", "batch_norm"),
)
def _batch_norm(op: Operation) -> Sequence[Axes]:
    axes = op.axes("input")
    for name in ("weight", "bias", "running_mean", "running_var"):
        if op.arguments.get(name) is not None:
            tie(axes[1], op.axes(name)[0])
    _reduced(axes, {0, *range(2, len(axes))}, keep=True)
    return [axes, *op.fixed_results()[1:]]


@RULES.register("native_group_norm")
def _group_norm(op: Operation) -> Sequence[Axes]:
    axes = op.axes("input")
    channels = axes[1].size
    group, unit = reshape([axes[1]], (op["group"], channels // op["group"]))
    for name in ("weight", "bias"):
        if op[name] is not None:
            tie(product([group, unit]), op.axes(name)[0])
    statistics = [axes[0], group]
    drop_ambiguous_contexts(statistics)
    return [axes, statistics, statistics]
