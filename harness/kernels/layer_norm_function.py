"""The fused LayerNorm as a differentiable function: which tensors it takes, its gradients, its check against plain PyTorch.

Knows nothing of when it is used (`selection.py`). Triton is imported when a kernel is launched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

_MAX_CHANNELS = 1024  # a row is in the registers of one program
_ALIGNMENT = 16  # bytes of a vectorized load
_CHECK_EPS = 1e-3  # smaller ones magnify rounding in rows of nearly equal values
_CHECK_SHAPE = (3, 5, 7)  # batch, height, width; odd, so that the last tile of every size is partly empty
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.02}  # of the largest value; a wrong kernel is off by about 1

LayerNorm = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, bool], Tensor]
"""relu(LayerNorm(x) · weight + bias + residual), of x, weight, bias, residual, eps, and whether there is a ReLU."""


class KernelMismatch(Exception):
    """A kernel's result is not that of plain PyTorch."""


class Variant(NamedTuple):
    """What a pair of kernels is compiled for."""

    dtype: torch.dtype
    weight_dtype: torch.dtype
    channels: int
    residual: bool
    relu: bool

    def __str__(self) -> str:
        parts = [f"{self.channels} channels", str(self.dtype).removeprefix("torch.")]
        if self.residual:
            parts.append("residual")
        if self.relu:
            parts.append("relu")
        return ", ".join(parts)


def variant_of(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Variant | None:
    """Return the variant for these tensors, or None if the kernels do not take them.

    They take channels-last images (batch, channels, height, width) in float32 or bfloat16, `residual` like `x`, and weight and
    bias of `x`'s dtype or float32.
    """
    if _is_transformed() or not _is_image(x):
        return None
    channels = x.shape[1]
    if not _is_vector(weight, channels, x) or not _is_vector(bias, channels, x) or weight.dtype != bias.dtype:
        return None
    if residual is not None:
        same = isinstance(residual, Tensor) and residual.shape == x.shape and residual.dtype == x.dtype
        if not same or residual.device != x.device or not _is_image(residual):
            return None
    return Variant(x.dtype, weight.dtype, channels, residual is not None, relu)


def _is_image(x: Tensor) -> bool:
    """Return whether rows of at most 1,024 channels are stored one after another, at an address for vectorized loads."""
    return (
        x.dtype in _TOLERANCE
        and x.ndim == 4
        and x.numel() > 0
        and x.shape[1] <= _MAX_CHANNELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.data_ptr() % _ALIGNMENT == 0
    )


def _is_vector(tensor: Tensor, channels: int, x: Tensor) -> bool:
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == (channels,)
        and tensor.dtype in (torch.float32, x.dtype)
        and tensor.device == x.device
        and tensor.is_contiguous()
    )


def _is_transformed() -> bool:
    """Return whether torch follows each operation, which it cannot do through a kernel.

    It does so for torch.func, forward-mode differentiation, tracing, and modes such as fake tensors and counters of operations.
    """
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()
    )


def fused_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
    """Return relu(LayerNorm(x) · weight + bias + residual) of tensors that `variant_of` takes, in `x`'s dtype."""
    return _FusedLayerNorm.apply(x, weight, bias, residual, eps, relu)


class _FusedLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
        from harness.kernels import triton_layer_norm

        y, mean, rstd = triton_layer_norm.forward(x, weight, bias, residual, eps, relu)
        # The next convolution keeps `y` anyway; the residual would be kept for the mask alone.
        masked_by_output = relu and residual is not None
        ctx.save_for_backward(x, weight, bias, y if masked_by_output else None, mean, rstd)
        ctx.eps = eps
        ctx.relu = relu
        ctx.has_residual = residual is not None
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        from harness.kernels import triton_layer_norm

        (grad,) = grads
        x, weight, bias, y, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the gradients are differentiated again
            found = _differentiable_gradients(grad, x, weight, bias, y, ctx.eps, ctx.relu)
        else:
            grad = _as_image(grad)
            found = triton_layer_norm.backward(grad, x, weight, bias, y, mean, rstd, ctx.relu)
        grad_x, grad_weight, grad_bias, grad_residual = found
        return grad_x, grad_weight, grad_bias, grad_residual if ctx.has_residual else None, None, None


def _as_image(grad: Tensor) -> Tensor:
    """Return a gradient in the layout of the kernels; a mean over pixels, for one, has a gradient with strides of 0."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    if grad.data_ptr() % _ALIGNMENT:
        grad = grad.clone(memory_format=torch.channels_last)
    return grad


def _differentiable_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, y: Tensor | None, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what `triton_layer_norm.backward` does, by operations that torch differentiates."""
    values = x.float()
    rstd = (values.var(1, correction=0, keepdim=True) + eps).rsqrt()
    normalized = (values - values.mean(1, keepdim=True)) * rstd
    scale = weight.float().view(-1, 1, 1)
    if relu:
        output = normalized * scale + bias.float().view(-1, 1, 1) if y is None else y
        grad = grad.masked_fill(output <= 0, 0.0)
    out_grad = grad.float()
    scaled = out_grad * scale
    mean_product = (scaled * normalized).mean(1, keepdim=True)
    grad_x = (scaled - scaled.mean(1, keepdim=True) - normalized * mean_product) * rstd
    grad_weight = (out_grad * normalized).sum((0, 2, 3))
    grad_bias = out_grad.sum((0, 2, 3))
    return grad_x.to(x.dtype), grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), grad


def plain_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
    """Return the same as `fused_layer_norm` by PyTorch's operations, for tensors of one dtype."""
    y = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), weight, bias, eps).permute(0, 3, 1, 2)
    if residual is not None:
        y = y + residual
    if relu:
        y = F.relu(y)
    return y


def check_layer_norm(variant: Variant, device: torch.device, function: LayerNorm = fused_layer_norm) -> None:
    """Compare a function and its gradients with plain PyTorch in float64. Raise `KernelMismatch` if they differ.

    It reads from the device, so it must not be called during a capture. It draws nothing from the global generators.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        inputs = _check_inputs(variant, device)
        expected_inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
        expected = _apply(plain_layer_norm, expected_inputs, variant)
        found = _apply(function, inputs, variant)
        # Near the bend of the ReLU, rounding decides whether a gradient passes.
        grad = torch.ones_like(expected)
        if variant.relu:
            before_relu = _apply(plain_layer_norm, expected_inputs, variant._replace(relu=False))
            grad = (before_relu.detach().abs() > 0.05).double()
        grad = grad * _wave(expected.shape, 0.37, device)
        gradients = torch.autograd.grad(found, inputs, grad.to(variant.dtype))
        expected_gradients = torch.autograd.grad(expected, expected_inputs, grad.to(variant.dtype).double())
    names = ["the output", "the gradient by x", "the gradient by weight", "the gradient by bias", "the gradient by residual"]
    for name, one, other in zip(names, (found, *gradients), (expected, *expected_gradients), strict=False):
        _require_close(name, one.detach().double(), other.detach(), _TOLERANCE[variant.dtype])


def _check_inputs(variant: Variant, device: torch.device) -> list[Tensor]:
    """Return x, weight, bias and, if the variant has one, residual: fixed numbers that differ from row to row."""
    batch, height, width = _CHECK_SHAPE
    shape = (batch, variant.channels, height, width)
    x = _wave(shape, 1.0, device).to(variant.dtype).contiguous(memory_format=torch.channels_last)
    weight = (1 + 0.5 * _wave((variant.channels,), 0.61, device)).to(variant.weight_dtype)
    bias = (0.5 * _wave((variant.channels,), 0.43, device)).to(variant.weight_dtype)
    inputs = [x, weight, bias]
    if variant.residual:
        inputs.append(_wave(shape, 0.79, device).to(variant.dtype).contiguous(memory_format=torch.channels_last))
    return [tensor.requires_grad_() for tensor in inputs]


def _wave(shape: tuple[int, ...], frequency: float, device: torch.device) -> Tensor:
    """Return numbers between -2 and 2 without a short period, float64."""
    positions = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    wave = torch.sin(frequency * positions) + torch.cos(0.013 * frequency * positions.square())
    return wave.view(shape).to(device)


def _apply(function: LayerNorm, inputs: list[Tensor], variant: Variant) -> Tensor:
    x, weight, bias = inputs[:3]
    residual = inputs[3] if variant.residual else None
    return function(x, weight, bias, residual, _CHECK_EPS, variant.relu)


def _require_close(name: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    error = float((found - expected).abs().max())
    size = max(1.0, float(expected.abs().max()))
    if not error <= tolerance * size:  # also if it is NaN
        raise KernelMismatch(f"{name} is off by {error:.2g}, with values up to {size:.2g}")
