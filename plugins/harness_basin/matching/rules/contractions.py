"""Rules for operations that sum products along axes: matrix products, convolutions, attention."""

from __future__ import annotations

from collections.abc import Sequence

from harness_basin.matching.index_algebra.indices import fix, fixed_axes, product
from harness_basin.matching.index_algebra.reshaping import reshape
from harness_basin.matching.index_algebra.tying import drop_ambiguous_contexts, tie, tie_all
from harness_basin.matching.rules.operations import Axes, Operation, Rules, broadcast

RULES = Rules()


@RULES.register("mm")
def _mm(op: Operation) -> Sequence[Axes]:
    """x (n, k) @ w (k, m)."""
    x = op.axes()
    w = op.axes("mat2")
    tie(x[1], w[0])
    return [[x[0], w[1]]]


@RULES.register("bmm")
def _bmm(op: Operation) -> Sequence[Axes]:
    return [_batched_product(op.axes(), op.axes("mat2"))]


def _batched_product(x: Axes, w: Axes) -> Axes:
    """x (b, n, k) @ w (b, k, m)."""
    tie_all([(x[0], w[0]), (x[2], w[1])])
    return [x[0], x[1], w[2]]


@RULES.register("addmm")
def _addmm(op: Operation) -> Sequence[Axes]:
    x = op.axes("mat1")
    w = op.axes("mat2")
    tie(x[1], w[0])
    return [broadcast([[x[0], w[1]], op.axes()])]


@RULES.register("baddbmm")
def _baddbmm(op: Operation) -> Sequence[Axes]:
    return [broadcast([_batched_product(op.axes("batch1"), op.axes("batch2")), op.axes()])]


@RULES.register("mv")
def _mv(op: Operation) -> Sequence[Axes]:
    return [_vector_product(op.axes(), op.axes("vec"))]


@RULES.register("dot")
def _dot(op: Operation) -> Sequence[Axes]:
    return [_vector_product(op.axes(), op.axes("tensor"))]


@RULES.register("addmv")
def _addmv(op: Operation) -> Sequence[Axes]:
    return [broadcast([_vector_product(op.axes("mat"), op.axes("vec")), op.axes()])]


def _vector_product(x: Axes, vector: Axes) -> Axes:
    """x (…, k) @ vector (k,)."""
    tie(x[-1], vector[0])
    return x[:-1]


@RULES.register("linear")
def _linear(op: Operation) -> Sequence[Axes]:
    """x (…, in) @ w (out, in)ᵀ + bias (out,)."""
    x = op.axes("input")
    w = op.axes("weight")
    tie(x[-1], w[1])
    result = [*x[:-1], w[0]]
    if op["bias"] is not None:
        result = broadcast([result, op.axes("bias")])
    return [result]


@RULES.register("convolution", "_convolution")
def _convolution(op: Operation) -> Sequence[Axes]:
    """Treat a convolution as a linear map of the channels in every group.

    The weight is (out, in / groups, …), or (in, out / groups, …) for a transposed convolution.
    """
    x = op.axes("input")
    w = op.axes("weight")
    groups = op["groups"]
    for axis in (*x[2:], *w[2:]):
        fix(axis)
    group, unit = reshape([x[1]], (groups, x[1].size // groups))
    w_group, w_unit = reshape([w[0]], (groups, w[0].size // groups))
    unit_in, unit_out = w[1], w_unit
    if op["transposed"]:
        unit_in, unit_out = w_unit, w[1]
    tie(group, w_group)
    tie(unit, unit_in)
    channels = unit_out
    if groups > 1:
        channels = product([group, unit_out])
    result = [x[0], channels, *fixed_axes(op.results[0].shape[2:])]
    if op["bias"] is not None:
        drop_ambiguous_contexts(result)
        tie(channels, op.axes("bias")[0])
    return [result]


@RULES.register(
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_attention_math"),
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attention(op: Operation) -> Sequence[Axes]:
    """softmax(q kᵀ + mask) v for q (…, L, d), k (…, S, d), v (…, S, e)."""
    q, k, v = op.axes("query"), op.axes("key"), op.axes("value")
    tie_all([*zip(q[:-2], k[:-2]), *zip(q[:-2], v[:-2]), (q[-1], k[-1]), (k[-2], v[-2])])
    scores = [*q[:-1], k[-2]]
    mask = _attention_mask(op)
    if mask is not None:
        broadcast([scores, mask])
    if op.arguments.get("is_causal"):
        fix(q[-2])
        fix(k[-2])
    drop_ambiguous_contexts(scores)
    return [[*q[:-1], v[-1]], *op.fixed_results()[1:]]


def _attention_mask(op: Operation) -> Axes | None:
    for name in ("attn_mask", "attn_bias"):
        if op.arguments.get(name) is not None:
            return op.axes(name)
    return None
