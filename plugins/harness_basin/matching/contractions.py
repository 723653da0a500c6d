"""Rules for operations that sum products along axes: matrix products, convolutions, attention."""

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
from harness_basin.matching.operations import Axes, Operation, Rules, broadcast

RULES = Rules()


@RULES.of("mm")
def _mm(op: Operation) -> Sequence[Axes]:
    x, w = op.axes(), op.axes("mat2")
    tie(x[1], w[0])
    return [[x[0], w[1]]]


@RULES.of("bmm")
def _bmm(op: Operation) -> Sequence[Axes]:
    return [_batched(op.axes(), op.axes("mat2"))]


def _batched(x: Axes, w: Axes) -> Axes:
    tie_all([(x[0], w[0]), (x[2], w[1])])
    return [x[0], x[1], w[2]]


@RULES.of("addmm")
def _addmm(op: Operation) -> Sequence[Axes]:
    x, w = op.axes("mat1"), op.axes("mat2")
    tie(x[1], w[0])
    return [broadcast([[x[0], w[1]], op.axes()])]


@RULES.of("baddbmm")
def _baddbmm(op: Operation) -> Sequence[Axes]:
    return [broadcast([_batched(op.axes("batch1"), op.axes("batch2")), op.axes()])]


@RULES.of("mv", "dot", "addmv")
def _vector(op: Operation) -> Sequence[Axes]:
    x = op.axes("mat" if op.name == "addmv" else "self")
    tie(x[-1], op.axes({"mv": "vec", "dot": "tensor", "addmv": "vec"}[op.name])[0])
    return [broadcast([x[:-1], op.axes()])] if op.name == "addmv" else [x[:-1]]


@RULES.of("linear")
def _linear(op: Operation) -> Sequence[Axes]:
    x, w = op.axes("input"), op.axes("weight")
    tie(x[-1], w[1])
    result = [*x[:-1], w[0]]
    return [broadcast([result, op.axes("bias")]) if op["bias"] is not None else result]


@RULES.of("convolution", "_convolution")
def _convolution(op: Operation) -> Sequence[Axes]:
    """Weight (out, in / groups, …), or (in, out / groups, …) if transposed: group by group, a linear map of the channels."""
    x, w, groups = op.axes("input"), op.axes("weight"), op["groups"]
    for axis in (*x[2:], *w[2:]):
        fix(axis)
    block, unit = reshape([x[1]], (groups, x[1].size // groups))
    w_block, w_unit = reshape([w[0]], (groups, w[0].size // groups))
    into, out = (w_unit, w[1]) if op["transposed"] else (w[1], w_unit)
    tie(block, w_block)
    tie(unit, into)
    channels = product([block, out]) if groups > 1 else out
    result = [x[0], channels, *(fixed(size) for size in op.results[0].shape[2:])]
    if op["bias"] is not None:
        settle(result)
        tie(channels, op.axes("bias")[0])
    return [result]


@RULES.of(
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_attention_math"),
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attention(op: Operation) -> Sequence[Axes]:
    """softmax(q kᵀ + mask) v: q (…, L, d), k (…, S, d), v (…, S, e)."""
    q, k, v = op.axes("query"), op.axes("key"), op.axes("value")
    tie_all([*zip(q[:-2], k[:-2]), *zip(q[:-2], v[:-2]), (q[-1], k[-1]), (k[-2], v[-2])])
    scores = [*q[:-2], q[-2], k[-2]]
    mask = next((name for name in ("attn_mask", "attn_bias") if op.arguments.get(name) is not None), None)
    if mask is not None:
        broadcast([scores, op.axes(mask)])
    if op.arguments.get("is_causal"):
        fix(q[-2])
        fix(k[-2])
    settle(scores)
    others = [[fixed(size) for size in result.shape] for result in op.results[1:]]
    return [[*q[:-1], v[-1]], *others]
