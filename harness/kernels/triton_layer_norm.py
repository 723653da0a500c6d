"""Triton kernels of a LayerNorm over rows, with a residual sum and a ReLU, forward and backward. Knows nothing of autograd.

A row is one pixel: the C values of its channels, which a channels-last tensor stores side by side. A program works on tiles of
whole rows, so a row's sums need no second pass over memory. All arithmetic is in float32.

The shapes of tiles and grids depend on the sizes alone. There is no autotuning, which would measure during a capture, and there
are no atomic sums: the gradients of weight and bias are summed in one order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 2048  # elements of a tile: 16 per thread
_WARPS = 4
_BACKWARD_PROGRAMS = 264  # two for each multiprocessor of an H100; more make the sum of their parts slower than they save


# Triton compiles a kernel anew for arguments of another alignment or divisibility. These vary between layers and batches; all
# other tensors are aligned. So one binary per variant fits every call, and none is compiled during a capture.
@triton.jit(do_not_specialize=["weight", "bias", "rows"])
def _forward_kernel(  # type: ignore[no-untyped-def]
    x,
    weight,
    bias,
    residual,
    y,
    mean,
    rstd,
    rows,
    eps,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = first + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    row_mask = row < rows
    channel_mask = channel < CHANNELS
    mask = row_mask[:, None] & channel_mask[None, :]
    offsets = row[:, None] * CHANNELS + channel[None, :]
    values = tl.load(x + offsets, mask=mask, other=0.0).to(tl.float32)
    row_mean = tl.sum(values, axis=1) / CHANNELS
    centered = tl.where(mask, values - row_mean[:, None], 0.0)
    row_rstd = tl.rsqrt(tl.sum(centered * centered, axis=1) / CHANNELS + eps)
    w = tl.load(weight + channel, mask=channel_mask, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=channel_mask, other=0.0).to(tl.float32)
    out = centered * row_rstd[:, None] * w[None, :] + b[None, :]
    if RESIDUAL:
        out += tl.load(residual + offsets, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        out = tl.where(out <= 0.0, 0.0, out)  # NaN stays NaN, as in torch
    tl.store(y + offsets, out.to(y.dtype.element_ty), mask=mask)
    tl.store(mean + row, row_mean, mask=row_mask)
    tl.store(rstd + row, row_rstd, mask=row_mask)


@triton.jit(do_not_specialize=["weight", "bias", "rows", "tiles"])
def _backward_kernel(  # type: ignore[no-untyped-def]
    grad,
    x,
    weight,
    bias,
    y,
    mean,
    rstd,
    grad_x,
    grad_residual,
    sums,
    rows,
    tiles,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    RELU: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    program = tl.program_id(0)
    channel = tl.arange(0, BLOCK)
    channel_mask = channel < CHANNELS
    w = tl.load(weight + channel, mask=channel_mask, other=0.0).to(tl.float32)
    b = tl.load(bias + channel, mask=channel_mask, other=0.0).to(tl.float32)
    weight_sum = tl.zeros([ROWS, BLOCK], dtype=tl.float32)
    bias_sum = tl.zeros([ROWS, BLOCK], dtype=tl.float32)
    tile = program
    # Not `range`, which the interpreter of Triton 3.2 refuses together with recent versions of NumPy.
    while tile < tiles:
        row = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
        row_mask = row < rows
        mask = row_mask[:, None] & channel_mask[None, :]
        offsets = row[:, None] * CHANNELS + channel[None, :]
        values = tl.load(x + offsets, mask=mask, other=0.0).to(tl.float32)
        out_grad = tl.load(grad + offsets, mask=mask, other=0.0).to(tl.float32)
        row_mean = tl.load(mean + row, mask=row_mask, other=0.0)
        row_rstd = tl.load(rstd + row, mask=row_mask, other=0.0)
        normalized = (values - row_mean[:, None]) * row_rstd[:, None]
        if RELU:
            if RESIDUAL:
                out = tl.load(y + offsets, mask=mask, other=0.0).to(tl.float32)
            else:
                out = normalized * w[None, :] + b[None, :]
            out_grad = tl.where(out <= 0.0, 0.0, out_grad)
            if RESIDUAL:
                tl.store(grad_residual + offsets, out_grad.to(grad_residual.dtype.element_ty), mask=mask)
        weight_sum += out_grad * normalized
        bias_sum += out_grad
        scaled = out_grad * w[None, :]
        mean_scaled = tl.sum(scaled, axis=1) / CHANNELS
        mean_product = tl.sum(scaled * normalized, axis=1) / CHANNELS
        in_grad = (scaled - mean_scaled[:, None] - normalized * mean_product[:, None]) * row_rstd[:, None]
        tl.store(grad_x + offsets, in_grad.to(grad_x.dtype.element_ty), mask=mask)
        tile += tl.num_programs(0)
    own = sums + program * CHANNELS + channel
    tl.store(own, tl.sum(weight_sum, axis=0), mask=channel_mask)
    tl.store(own + tl.num_programs(0) * CHANNELS, tl.sum(bias_sum, axis=0), mask=channel_mask)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return relu(LayerNorm(x) + residual), and each row's mean and 1 / standard deviation, float32 (rows,).

    `x` and `residual` are channels-last (batch, channels, height, width) of one dtype, `weight` and `bias` are (channels,).
    """
    rows, sizes = _sizes(x)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    mean = torch.empty(rows, dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    grid = (_tiles(rows, sizes["ROWS"]),)
    flags = {"RELU": relu, "RESIDUAL": residual is not None}
    with _current(x):
        _forward_kernel[grid](x, weight, bias, residual, y, mean, rstd, rows, eps, **sizes, **flags, num_warps=_WARPS)
    return y, mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    y: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    relu: bool,
    *,
    max_programs: int = _BACKWARD_PROGRAMS,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients by x, weight, bias and residual, from the gradient by the output, channels-last like `x`.

    `y` is the output if there were both a residual and a ReLU, else None: then the ReLU's mask is recomputed. Without a ReLU
    the gradient by the residual is `grad` itself. Each of at most `max_programs` programs sums a part of the rows.
    """
    rows, sizes = _sizes(x)
    tiles = _tiles(rows, sizes["ROWS"])
    programs = min(tiles, max_programs)
    grad_x = torch.empty_like(x, memory_format=torch.channels_last)
    grad_residual = grad if y is None else torch.empty_like(grad_x)
    sums = torch.empty((2, programs, x.shape[1]), dtype=torch.float32, device=x.device)
    flags = {"RELU": relu, "RESIDUAL": y is not None}
    with _current(x):
        _backward_kernel[(programs,)](
            grad,
            x,
            weight,
            bias,
            y,
            mean,
            rstd,
            grad_x,
            grad_residual,
            sums,
            rows,
            tiles,
            **sizes,
            **flags,
            num_warps=_WARPS,
        )
    grad_weight, grad_bias = sums.sum(1).to(weight.dtype)
    return grad_x, grad_weight, grad_bias, grad_residual


def _sizes(x: Tensor) -> tuple[int, dict[str, int]]:
    """Return the number of rows, and the constants of the kernels that depend on the number of channels."""
    channels = x.shape[1]
    block = triton.next_power_of_2(channels)
    return x.numel() // channels, {"CHANNELS": channels, "BLOCK": block, "ROWS": max(1, _TILE // block)}


def _tiles(rows: int, rows_per_tile: int) -> int:
    return -(-rows // rows_per_tile)


def _current(x: Tensor) -> AbstractContextManager[Any]:
    """Make the tensor's device, on which Triton launches, the current one within the block. Its interpreter needs no device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
