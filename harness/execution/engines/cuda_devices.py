"""The number of CUDA devices."""

from __future__ import annotations


def count_cuda_devices() -> int:
    """Return the number of CUDA devices that this process can use, at least 1."""
    import torch

    return max(1, torch.cuda.device_count())
