"""Which errors mean that memory ran out."""

from __future__ import annotations

import errno

import pytest
import torch

from harness.errors import DeviceBroken, PluginFailed, TaskFailed, is_out_of_memory


class InductorError(RuntimeError):
    """An error of torch's compiler, which has the message of its cause."""


ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
)

OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB"),
    torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB."),
    torch.OutOfMemoryError("XPU out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB, max allowed: 6.00 GB)"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP error: out of memory"),
    RuntimeError("CUDA error: CUDA_ERROR_OUT_OF_MEMORY"),
    RuntimeError("hipErrorOutOfMemory"),
    RuntimeError("cudaErrorMemoryAllocation"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("CUDA error: CUSPARSE_STATUS_ALLOC_FAILED when calling `cusparseCreate(handle)`"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("miopenStatusAllocFailed"),
    RuntimeError("rocblas_status_memory_error"),
    RuntimeError(f"{ALLOCATOR} Error code 12 (Cannot allocate memory)"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
    ),
    RuntimeError("unable to mmap 1024 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    InductorError("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
]

OTHERS = [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: misaligned address"),
    RuntimeError("CUDA error: too many resources requested for launch"),
    RuntimeError("CUDA error: operation failed due to a previous error during capture"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH"),
    RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"),
    RuntimeError("view size is not compatible with input tensor's size and stride"),
    RuntimeError("Trying to resize storage that is not resizable"),
    IndexError("index 5 is out of bounds for dimension 0 with size 5"),
    ValueError("out of memory"),
    KeyError("out of memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    TaskFailed("out of memory"),
    PluginFailed("toys: build raised RuntimeError: CUDA out of memory"),
    DeviceBroken("cuda:0: unusable in this process after a failure (CUDA out of memory): CUDA error: unknown error"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_error_of_an_exhausted_memory(error: BaseException) -> None:
    """Errors of the host and of a device, of torch, its libraries and its compiler, are recognized."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_error_of_another_kind(error: BaseException) -> None:
    """Other errors of devices and libraries, of the user, of tasks and of files are not."""
    assert not is_out_of_memory(error)
