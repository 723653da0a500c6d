"""Which device computes, and in which precision it trains by itself."""

from __future__ import annotations

from typing import Literal

from harness.errors import DeviceError


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`, or a device that is there; raise `DeviceError`."""
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device.startswith("cuda") and not available:
        raise DeviceError(f"--device {device}: no CUDA device is available here; use --device cpu or --device auto")
    return device


def precision_on(device: str) -> Literal["fp32", "bf16"]:
    """Return what `precision: auto` is on a device that is there: bf16 on a CUDA device that computes in it.

    On the CPU it is fp32 everywhere: which processors have bf16 instructions is not for users to know, and what a file trains
    on one laptop it shall train on the next.
    """
    if not device.startswith("cuda"):
        return "fp32"
    import torch

    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"
