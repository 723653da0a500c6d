"""Which errors mean that this process can no longer use its device, while a new process may.

After such an error, CUDA returns the same error from every further call: its documentation says that the process must be ended
(CUDA Runtime API, `cudaError_t`). Running out of memory is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from harness.errors import DeviceBroken, is_out_of_memory
from harness.text import describe_error

# The texts are those of `cudaGetErrorString`, without articles. HIP has the same ones, as far as it has these errors.
_ASSERTION = "device-side assert triggered"
_LASTING = (
    "illegal memory access was encountered",
    "illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "unspecified launch failure",
    "launch timed out and was terminated",
    "hardware stack error",
    "tensor memory not completely freed",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected",
    "Invalid access of peer GPU memory over nvlink or a hardware error",
    "context is destroyed",
    "invalid device context",
    "CUDA-capable device(s) is/are busy or unavailable",
    "no CUDA-capable device is detected",
    "system not yet initialized",
    "MPS client has been terminated by the server",
    "remote procedural call between the MPS server and the MPS client failed",
    "async error has occured in external entity",  # spelled so by CUDA
    "unknown error",
    _ASSERTION,
)
_LIBRARIES = ("STATUS_EXECUTION_FAILED", "STATUS_MAPPING_ERROR", "CUFFT_EXEC_FAILED")
"""Errors of cuBLAS, cuDNN, cuSOLVER and cuFFT after a kernel of theirs has failed on the device."""

_FROM_DEVICE = re.compile(
    r"(?:CUDA|HIP)(?: driver| runtime)? error(?: \(\d+\))?\s*:"  # torch
    r"|(?:cu\w+|MIOpen) error\s*:"  # libraries, through torch
    r"|Triton Error \[(?:CUDA|HIP)\]\s*:",
    re.IGNORECASE,
)
"""How torch, its libraries and Triton begin the message of a device's error."""


def breaks_device(error: BaseException) -> bool:
    """Return whether an error, or one that caused it, means that this process can no longer use its device."""
    return any(_is_lasting(cause) for cause in _causes(error))


def is_by_code(error: BaseException) -> bool:
    """Return whether an error that breaks the device, or its cause, says that the code is wrong and not the device."""
    return any(_ASSERTION in str(cause) for cause in _causes(error) if isinstance(cause, RuntimeError))


def broken_device(error: BaseException, device: torch.device) -> DeviceBroken | None:
    """Return the error to raise if, after an error, this process can no longer use its device; else None.

    If the error does not say so, the device is asked: after an error that lasts, it answers with that error.
    """
    if breaks_device(error):
        return DeviceBroken(_first_lasting_line(error))
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as answer:
        if not is_out_of_memory(answer):
            return DeviceBroken(describe_error(answer))
    return None


def _is_lasting(error: BaseException) -> bool:
    if isinstance(error, DeviceBroken):
        return True
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    begin = _FROM_DEVICE.search(str(error))
    if begin is None:
        return False
    text = str(error)[begin.end() :]
    return any(sign in text for sign in (*_LASTING, *_LIBRARIES))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that caused it, or during whose handling it was raised."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or hidden


def _first_lasting_line(error: BaseException) -> str:
    """Return the first line of the message of the error that lasts; torch adds lines about how to debug it."""
    for cause in _causes(error):
        if _is_lasting(cause):
            return str(cause).strip().split("\n", 1)[0].strip()
    return describe_error(error)
