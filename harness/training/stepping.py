"""How the steps of a training are taken: eagerly, captured or compiled, with how many siblings, in which arithmetic."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Manner = Literal["eager", "captured", "compiled"]
"""Operation by operation; as a CUDA graph; as a CUDA graph of compiled kernels."""


@dataclass(frozen=True)
class Stepping:
    """How the steps of a training are taken. It affects speed and rounding, and is part of no key.

    `siblings` is the number of trainings that take their steps at once, this one included. `precision` is the recipe's, for
    example `bf16`. `tf32` says whether float32 products and convolutions are rounded to TF32 on the device. `fallback` is the
    reason why steps are not captured, or not compiled, although that was tried; empty if it was not tried or if it worked.
    """

    manner: Manner
    siblings: int
    precision: str
    tf32: bool
    fallback: str = ""


OnStepping = Callable[[Stepping], None]
"""Called when it is known how the steps of a training are taken, before the first one."""


def warn_of_fallback(stepping: Stepping) -> None:
    """Warn if steps are not captured, or not compiled, although that was tried."""
    if stepping.fallback:
        warnings.warn(f"steps are {stepping.manner}: {stepping.fallback}", RuntimeWarning, stacklevel=4)


def uses_tf32(device: torch.device) -> bool:
    """Return whether float32 products or convolutions are rounded to TF32 on a device: torch's flags now, on CUDA."""
    if device.type != "cuda":
        return False
    if hasattr(torch.backends.cudnn, "conv"):  # torch >= 2.9, whose older flags raise if both kinds were set
        return "tf32" in (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)
    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
