"""What `harness doctor` says about devices."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

from harness.execution.device import precision_on, selected_devices
from harness.execution.device_inventory import DeviceInventory, Driver
from harness.text import describe_error

_SHARED = "Default"  # the compute mode in which several processes may use a GPU


def device_report(inventory: DeviceInventory) -> Iterator[tuple[str, str]]:
    """Yield the lines about devices: a label, and what is there. On machines without CUDA devices it is one line."""
    count = inventory.count()
    selected = selected_devices()
    if not count:
        yield "device", f"no CUDA device; runs go to the CPU{_why_none(inventory, selected)}"
        return
    for index in range(count):
        yield "device", _describe(inventory, index)
    if selected:
        yield "devices", f"{selected}: others are hidden"
    driver = inventory.driver()
    version = f"driver {driver.version}" if driver else "driver unknown"
    yield "cuda", f"{inventory.build()}, {version}, {_describe_triton()}"
    yield "tf32", f"off, in training and evaluation{_overruled()}"
    yield from _warnings(inventory, driver)


def _why_none(inventory: DeviceInventory, selected: str) -> str:
    """Return a part of a sentence that says why there is no CUDA device, as far as that is known."""
    if inventory.unsupported():
        return f"; torch's {' and '.join(inventory.unsupported())} is not supported"
    if not inventory.build():
        return "; torch is built without CUDA"
    return f"; {selected} hides all, or the driver does not work" if selected else ""


def _describe(inventory: DeviceInventory, index: int) -> str:
    facts = inventory.facts(index)
    major, minor = facts.capability
    bf16 = "bf16" if precision_on(f"cuda:{index}", inventory) == "bf16" else "no bf16 units"
    return f"cuda:{index}: {facts.name}, {facts.memory / 2**30:.1f} GiB, compute capability {major}.{minor}, {bf16}"


def _describe_triton() -> str:
    """Return whether Triton, which compiles kernels, can be imported."""
    try:
        triton = importlib.import_module("triton")
    except Exception as error:  # a broken installation may raise anything
        return f"Triton cannot be imported, so steps are not compiled: {describe_error(error)}"
    return f"Triton {getattr(triton, '__version__', '(unknown version)')}"


def _overruled() -> str:
    """Return which environment variables ask for TF32; they do not apply to tasks."""
    found = []
    for name in ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        if os.environ.get(name, "0") not in ("", "0"):
            found.append(f"{name}='{os.environ[name]}'")
    return f"; {' and '.join(found)} does not apply to tasks" if found else ""


def _warnings(inventory: DeviceInventory, driver: Driver | None) -> Iterator[tuple[str, str]]:
    """Yield what makes devices slower, or lets one process only use them."""
    parts = [index for index in range(inventory.count()) if " MIG " in f" {inventory.facts(index).name} "]
    if parts:
        names = ", ".join(f"cuda:{index}" for index in parts)
        yield "warning", f"{names}: part of a GPU (MIG); measured speeds are those of the part"
    modes = sorted({mode for mode in driver.compute_modes if mode != _SHARED}) if driver else []
    if modes:
        what = "one process per GPU at a time: several --workers on one device fail"
        yield "warning", f"compute mode {', '.join(modes)} of a GPU allows {what}"
