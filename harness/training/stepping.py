"""How the steps of a training are taken: eagerly, captured or compiled, with how many siblings, in which arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Manner = Literal["eager", "captured", "compiled"]
"""Operation by operation; as a CUDA graph; as a CUDA graph of compiled kernels."""


@dataclass(frozen=True)
class Stepping:
    """How the steps of a training are taken. It affects speed and rounding, and is part of no key.

    `siblings` is the number of trainings that take their steps at once, this one included. `precision` is the recipe's, `fp32` or
    `bf16`. `tf32` says whether float32 products and convolutions are rounded to TF32 on the device. `fallback` is the reason
    why steps are not captured, or not compiled, although that was tried; empty if it was not tried or if it worked.
    """

    manner: Manner
    siblings: int
    precision: str
    tf32: bool
    fallback: str = ""


OnStepping = Callable[[Stepping], None]
"""Called when it is known how the steps of a training are taken, before the first one."""
