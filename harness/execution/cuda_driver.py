"""What `precision: auto` means on this machine, asked of the CUDA driver: planning need not import torch (half a gigabyte).

The answer is that of `harness.execution.device` for the device `auto`. It depends on all visible devices, and on whether the
installed torch can use them. The driver itself applies CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

from harness.execution.device import precision_of_capability, precision_on, resolve_device

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR of cuda.h


def automatic_precision() -> Literal["fp32", "bf16"]:
    """Return the precision that `precision: auto` means here, as torch would determine it.

    torch is asked itself if a plugin has imported it, and if it is built for ROCm or does not say what it is built for.
    """
    toolkit = _toolkit_of_torch()
    if toolkit is None:
        return precision_on(resolve_device("auto"))
    if not toolkit:
        return "fp32"
    return precision_of_driver(load_driver(), int(toolkit.split(".")[0]))


def _toolkit_of_torch() -> str | None:
    """Return the version of CUDA that torch is built for, "" for none; None if only torch itself can tell."""
    if "torch" in sys.modules:
        return None
    spec = importlib.util.find_spec("torch")  # imports nothing
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return toolkit_of_version_file(text)


def toolkit_of_version_file(text: str) -> str | None:
    """Return the version of CUDA in the text of `torch/version.py`, "" for none; None for ROCm and for a text without it."""
    values: dict[str, Any] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Constant):
            values[node.target.id] = node.value.value
    if "cuda" not in values or values.get("hip"):
        return None
    return str(values["cuda"] or "")


def load_driver() -> ctypes.CDLL | None:
    """Return the driver's library; None on a machine without it."""
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def precision_of_driver(driver: Any, toolkit: int) -> Literal["fp32", "bf16"]:
    """Return the precision that all visible devices of a driver have: fp32 without a driver, and without a device.

    `toolkit` is the major version of CUDA that torch is built for. A driver of an earlier major version cannot run it. `driver`
    has the functions of the driver's library.
    """
    if driver is None or driver.cuInit(0) != 0:
        return "fp32"
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value // 1000 < toolkit:
        return "fp32"
    count = ctypes.c_int(0)
    if driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value < 1:
        return "fp32"
    majors = [_major_capability(driver, index) for index in range(count.value)]
    return precision_of_capability(min(majors))


def _major_capability(driver: Any, index: int) -> int:
    """Return the major number of a device's compute capability, 0 if the driver does not tell."""
    device = ctypes.c_int(0)
    major = ctypes.c_int(0)
    if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
        return 0
    if driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device) != 0:
        return 0
    return major.value
