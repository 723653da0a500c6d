"""The one place where tensors of a device are copied to the host, which waits there for the work that was queued before."""

from __future__ import annotations

from torch import Tensor


def to_host(tensor: Tensor, *, copy: bool = False) -> Tensor:
    """Return a tensor on the CPU, without its gradient's history. A tensor of the CPU is copied only if `copy` is True."""
    return tensor.detach().to("cpu", copy=copy)
