"""Standard normal numbers from a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import streams

if TYPE_CHECKING:
    from torch import Tensor


def normal(shape: Sequence[int], key: int) -> Tensor:
    """Return standard normal float64 numbers of a shape from a stream (Box-Muller transform)."""
    import torch

    n = torch.Size(shape).numel()
    u = streams.uniform(key, torch.arange(2 * n)).double().reshape(2, n)
    return (torch.sqrt(-2 * torch.log1p(-u[0])) * torch.cos(2 * torch.pi * u[1])).reshape(shape)
