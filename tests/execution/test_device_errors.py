"""Which errors mean that a process can no longer use its device. The messages are those that torch and its libraries print."""

from __future__ import annotations

import pytest
import torch

from harness.errors import DeviceBroken, PluginFailed, attribute_errors
from harness.execution.device_errors import breaks_device, broken_device, is_by_code

ADVICE = (
    "\nSearch for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/cuda-runtime-api for more information.\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.\n"
    "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
)
LASTING = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: an illegal memory access was encountered" + ADVICE,
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: misaligned address",
    "CUDA error: operation not supported on global/shared address space",
    "CUDA error: invalid program counter",
    "CUDA error: unspecified launch failure",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: hardware stack error",
    "CUDA error: tensor memory not completely freed",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: uncorrectable NVLink error detected during the execution",
    "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error",
    "CUDA error: context is destroyed",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: the MPS client has been terminated by the server",
    "CUDA error: an async error has occured in external entity outside of CUDA",
    "CUDA error: unknown error",
    "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n",
    "cuda runtime error (39) : uncorrectable ECC error encountered at /pytorch/aten/src/THC/THCCachingHostAllocator.cpp:265",
    "CUDA driver error: an illegal memory access was encountered",
    "HIP error: an illegal memory access was encountered",
    "HIP error: unspecified launch failure",
    "Triton Error [CUDA]: an illegal memory access was encountered",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_MAPPING_ERROR",
    "cusolver error: CUSOLVER_STATUS_EXECUTION_FAILED, when calling `cusolverDnSgesvdj`",
    "cuFFT error: CUFFT_EXEC_FAILED",
]
PASSING = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.2 GiB is free.",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: invalid argument",
    "CUDA error: no kernel image is available for execution on the device",
    "CUDA error: operation not permitted when stream is capturing",
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`",
    "CUDA error: invalid device ordinal",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
    "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    "unknown error",
    "the plugin's own message: unspecified launch failure",
]
CPU = torch.device("cpu")


@pytest.mark.parametrize("message", LASTING)
def test_errors_that_last(message: str) -> None:
    """The device is broken for this process, and the reason is the first line of the message."""
    error = RuntimeError(message)
    assert breaks_device(error)
    assert str(broken_device(error, CPU)) == message.split("\n")[0].strip()


@pytest.mark.parametrize("message", PASSING)
def test_errors_that_pass(message: str) -> None:
    """The device can be used after them."""
    assert not breaks_device(RuntimeError(message))
    assert broken_device(RuntimeError(message), CPU) is None


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="torch raises RuntimeError")
def test_accelerator_error() -> None:
    """The class of newer torch versions is recognized."""
    assert breaks_device(torch.AcceleratorError(LASTING[0]))


def test_texts_in_other_classes() -> None:
    """An error of another class does not come from the device, whatever its text."""
    assert not breaks_device(ValueError(LASTING[0]))
    assert not breaks_device(torch.OutOfMemoryError("CUDA error: unknown error"))


def test_error_within_a_plugin() -> None:
    """The error that names the plugin is recognized by its cause; so is one that was raised while the cause was handled."""
    with pytest.raises(PluginFailed) as caught, attribute_errors("metric 'm' of plugin 'p'", "measure"):
        raise RuntimeError(LASTING[0] + ADVICE)
    assert breaks_device(caught.value)
    assert str(broken_device(caught.value, CPU)) == LASTING[0]
    later = KeyError("raised while the other one was handled")
    later.__context__ = RuntimeError(LASTING[0])
    assert breaks_device(later)


def test_hidden_cause() -> None:
    """An error whose context is suppressed stands for itself."""
    later = ValueError("raised from None")
    later.__context__ = RuntimeError(LASTING[0])
    later.__suppress_context__ = True
    assert not breaks_device(later)


def test_causes_in_a_circle() -> None:
    """They are read once each."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not breaks_device(one)


def test_device_broken() -> None:
    """The project's own error is kept with its message, also as the cause of another one."""
    broken = DeviceBroken("a capture failed and its memory cannot be released")
    outer = ValueError("outer")
    outer.__cause__ = broken
    assert str(broken_device(broken, CPU)) == str(broken)
    assert str(broken_device(outer, CPU)) == str(broken)


def test_errors_of_the_code() -> None:
    """A failed assertion in a kernel says that the code is wrong; no other error does."""
    by_code = [message for message in LASTING if is_by_code(RuntimeError(message))]
    assert len(by_code) == 1
    assert "device-side assert" in by_code[0]
