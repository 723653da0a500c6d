"""Choice of the device, and of the precision that `precision: auto` means on it."""

from __future__ import annotations

from typing import Literal

from harness.errors import DeviceError


def resolve_device(device: str) -> str:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:INDEX`; raise `DeviceError` if there is no CUDA device.

    `auto` is `cuda` if it is available, else `cpu`.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device.startswith("cuda") and not available:
        raise DeviceError(f"--device {device}: no CUDA device is available here; use --device cpu or --device auto")
    return device


def precision_on(device: str) -> Literal["fp32", "bf16"]:
    """Return the precision that `precision: auto` means: bf16 on a CUDA device with bf16 units, else fp32.

    On CPUs it is always fp32, so that a benchmark file means the same on processors with and without bf16 instructions.
    """
    if not device.startswith("cuda"):
        return "fp32"
    import torch

    return precision_of_capability(torch.cuda.get_device_capability(device)[0])


def precision_of_capability(major: int) -> Literal["fp32", "bf16"]:
    """Return the precision for a CUDA device by the major number of its compute capability; 8.0 and later compute in bf16."""
    return "bf16" if major >= 8 else "fp32"
