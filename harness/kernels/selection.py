"""Which kernels are used where. Importing it costs no torch.

The choice changes results by rounding only, so it is in no key.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from harness.errors import is_out_of_memory
from harness.text import describe_error

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.kernels.layer_norm_function import Variant

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # as Triton decides it, once
_OLDEST_MAJOR = 8  # compute capability of the oldest GPUs that Triton supports
_enabled: ContextVar[bool | None] = ContextVar("enabled", default=None)


class KernelUnavailable(Exception):
    """A device that kernels are not built for."""


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, *, residual: Tensor | None = None, relu: bool = False
) -> Tensor | None:
    """Return relu(LayerNorm(x) · weight + bias + residual) from one kernel, or None where PyTorch's operations must do it.

    LayerNorm is over the channels of each pixel: `x` is (batch, channels, height, width), `residual` like `x`, `weight` and
    `bias` are (channels,). The sums are in float32; the result has the dtype of `x`, also under autocast. It can be
    differentiated.

    There is a kernel for channels-last float32 and bfloat16 images of at most 1,024 channels on a CUDA device, unless
    `torch.compile` traces the call: it fuses the plain operations itself. The first use of a variant on a device compares the
    kernel with PyTorch, outside of captures. If it differs or cannot be built, kernels are switched off for the device with a
    warning. On the CPU, kernels are used in Triton's interpreter only (TRITON_INTERPRET=1), for tests.
    """
    import torch

    if type(x) is not torch.Tensor or not (x.is_cuda or _INTERPRETED):  # symbols of torch.fx are not tensors
        return None
    if torch.compiler.is_compiling() or not is_enabled():
        return None
    from harness.kernels.layer_norm_function import fused_layer_norm, variant_of

    variant = variant_of(x, weight, bias, residual, relu)
    if variant is None or not SELECTION.accepts(variant, x.device):
        return None
    return fused_layer_norm(x, weight, bias, residual, eps, relu)


def is_enabled() -> bool:
    """Return whether kernels may be used: unless HARNESS_PLAIN_KERNELS is set, or as `enabled` says."""
    switch = _enabled.get()
    if switch is None:
        return not os.environ.get("HARNESS_PLAIN_KERNELS")
    return switch


@contextmanager
def enabled(switch: bool) -> Iterator[None]:
    """Use kernels within the block, or do not, whatever HARNESS_PLAIN_KERNELS says.

    A graph that is captured within the block keeps its kernels. The backward pass uses what the forward pass used.
    """
    token = _enabled.set(switch)
    try:
        yield
    finally:
        _enabled.reset(token)


def uses_kernels(network: nn.Module, device: torch.device) -> bool:
    """Return whether kernels do a part of a network's work on a device: one of its modules has `uses_kernels = True`.

    A captured step of such a network is faster than a compiled one: 63,000 images/s against 54,000, five ResNet20×4 siblings on
    an H200.
    """
    if device.type != "cuda" or not is_enabled() or SELECTION.refuses(device):
        return False
    return any(getattr(module, "uses_kernels", False) is True for module in network.modules())


def describe(device: torch.device | str) -> str:
    """Return which kernels are used on a device, and why: `fused LayerNorm (Triton 3.8.0)` or `plain PyTorch: …`.

    If none was used there yet, one is built and checked, which takes some seconds.
    """
    import torch

    from harness.kernels.layer_norm_function import Variant

    device = torch.device(device)
    if device.type != "cuda":
        return "plain PyTorch: kernels need a CUDA device"
    if not is_enabled():
        return "plain PyTorch: HARNESS_PLAIN_KERNELS is set"
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    SELECTION.accepts(Variant(torch.bfloat16, torch.float32, 64, True, True), device)
    return SELECTION.describe(device)


class Selection:
    """The variants that passed their check, per device, and the devices on which one did not: none is used there.

    `check` raises an error if a variant is wrong or cannot be built on a device. `may_wait` returns whether the host may wait
    for the device now, as a check does; where it may not, a variant that is unchecked is not used.
    """

    def __init__(self, check: Callable[[Variant, torch.device], None], may_wait: Callable[[torch.device], bool]) -> None:
        self._check = check
        self._may_wait = may_wait
        self._accepted: set[tuple[torch.device, Variant]] = set()
        self._refused: dict[torch.device, str] = {}

    def accepts(self, variant: Variant, device: torch.device) -> bool:
        """Return whether a variant is used on a device. Its first use checks it, and raises if memory runs out."""
        if device in self._refused:
            return False
        if (device, variant) in self._accepted:
            return True
        if not self._may_wait(device):
            return False
        try:
            self._check(variant, device)
        except Exception as error:  # Triton, its compilers and the driver may raise anything
            if is_out_of_memory(error):
                raise
            reason = f"fused LayerNorm ({variant}): {describe_error(error)}"
            self._refused[device] = reason
            warnings.warn(f"{device}: kernels are not used, PyTorch's operations are: {reason}", RuntimeWarning, stacklevel=3)
            return False
        self._accepted.add((device, variant))
        return True

    def refuses(self, device: torch.device) -> bool:
        """Return whether a variant did not pass its check on a device, so that none is used there."""
        return device in self._refused

    def describe(self, device: torch.device) -> str:
        """Return which kernels are used on a device: one sentence without a full stop."""
        if device in self._refused:
            return f"plain PyTorch: {self._refused[device]}"
        if not any(place == device for place, _ in self._accepted):
            return "plain PyTorch: no kernel was checked yet"
        import triton

        return f"fused LayerNorm (Triton {triton.__version__})"


def check_variant(variant: Variant, device: torch.device) -> None:
    """Raise an error if a variant cannot be built on a device, or is wrong there."""
    import torch

    from harness.kernels.layer_norm_function import check_layer_norm

    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < _OLDEST_MAJOR:
            raise KernelUnavailable(f"the device has compute capability {major}.{minor}; Triton needs {_OLDEST_MAJOR}.0")
    check_layer_norm(variant, device)


def _may_wait(device: torch.device) -> bool:
    """Return False during a capture, and where torch raises or warns if the host waits for the device."""
    import torch

    if device.type != "cuda":
        return True
    return not torch.cuda.is_current_stream_capturing() and torch.cuda.get_sync_debug_mode() == 0


SELECTION = Selection(check_variant, _may_wait)
