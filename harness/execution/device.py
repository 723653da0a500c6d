"""Choice of the device, and of the precision on it. Imports torch only where a device is looked for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from harness.errors import DeviceError, did_you_mean
from harness.execution.device_inventory import DeviceInventory, TorchDevices
from harness.text import single_line

_KNOWN = ("auto", "cpu", "cuda", "cuda:INDEX")
_INDEXED = re.compile(r"cuda:([0-9]+)")
_IDENTIFIER = re.compile(r"(GPU|MIG)-[0-9a-fA-F/-]+")
_LIST = re.compile(r"(cuda:)?[0-9]+(,(cuda:)?[0-9]+)+")
_OTHER_NAMES = {
    "gpu": "cuda",
    "nvidia": "cuda",
    "hip": "cuda",  # torch calls AMD's devices cuda too
    "rocm": "cuda",
    "amd": "cuda",
}
_UNSUPPORTED = ("mps", "xpu", "xla", "hpu", "npu", "mtia", "ipu", "vulkan", "meta")
_SELECTORS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Environment variables that select which devices a process sees, and number those from 0."""

_BF16_SINCE = 8  # major compute capability of the first CUDA devices with bf16 units


@dataclass(frozen=True)
class DeviceName:
    """A device as the user names it. `kind` is `auto`, `cpu` or `cuda`; `index` is None unless the name has one."""

    kind: Literal["auto", "cpu", "cuda"]
    index: int | None = None


def parse_device(text: str) -> DeviceName:
    """Return the device that a text names; raise `DeviceError` if it names none. Does not look for the device."""
    match text:
        case "auto" | "cpu" | "cuda":
            return DeviceName(text)
        case "cpu:0":
            return DeviceName("cpu")
    indexed = _INDEXED.fullmatch(text)
    if indexed:
        return DeviceName("cuda", int(indexed[1]))
    raise DeviceError(single_line(f"--device {text or repr(text)}: {_objection(text)}"))


def _objection(text: str) -> str:
    """Return why a text names no device that can be used, and what to write instead."""
    kind, _, index = text.partition(":")
    name = kind.lower()
    if _IDENTIFIER.fullmatch(text):
        return f"devices are named by their index; set CUDA_VISIBLE_DEVICES={text} and use --device cuda"
    if _LIST.fullmatch(text):
        indices = text.replace("cuda:", "")
        return f"names several devices; set CUDA_VISIBLE_DEVICES={indices} and use --device cuda"
    if name in _UNSUPPORTED:
        return f"torch's device '{name}' is not supported; use cpu, cuda or cuda:INDEX"
    if kind == "cuda":
        return f"the index of a CUDA device is a number from 0, as in cuda:0; this one is '{index}'"
    if kind == "cpu":
        return "there is one CPU device, cpu; --workers and --threads say how many cores are used"
    return f"unknown device{_hint(text)}"


def _hint(text: str) -> str:
    """Return the name that was probably meant, and the known ones."""
    kind, colon, index = text.strip().lower().partition(":")
    meant = _OTHER_NAMES.get(kind, kind) + colon + index
    if meant.isascii() and meant.isdigit():
        meant = f"cuda:{meant}"
    if meant in _KNOWN or _INDEXED.fullmatch(meant):
        return f"; did you mean '{meant}'? known: {', '.join(_KNOWN)}"
    return did_you_mean(kind, _KNOWN)


def resolve_device(device: str, inventory: DeviceInventory | None = None) -> str:
    """Return the device for a text: `cpu`, `cuda` (all CUDA devices) or `cuda:INDEX`. `auto` is `cuda` if there is one.

    Raise `DeviceError` for a text that names no device, or a CUDA device that is not there.
    """
    name = parse_device(device)
    if name.kind == "cpu":
        return "cpu"
    inventory = inventory or TorchDevices()
    count = inventory.count()
    if name.kind == "auto":
        return "cuda" if count else "cpu"
    if not count:
        why = _why_none(inventory)
        raise DeviceError(f"--device {device}: no CUDA device is available here{why}; use --device cpu or --device auto")
    if name.index is None:
        return "cuda"
    if name.index >= count:
        raise DeviceError(f"--device {device}: {_count_in_words(count)}{_selection()}; choose one of these, or --device cuda")
    return f"cuda:{name.index}"


def worker_devices(device: str, workers: int, inventory: DeviceInventory | None = None) -> tuple[str, ...]:
    """Return the device of each of several workers, for a device that `resolve_device` returned.

    With `cuda`, workers are spread over all CUDA devices in turn. Otherwise all of them share the one device.
    """
    if device != "cuda":
        return (device,) * workers
    inventory = inventory or TorchDevices()
    count = max(1, inventory.count())
    return tuple(f"cuda:{worker % count}" for worker in range(workers))


def precision_on(device: str, inventory: DeviceInventory | None = None) -> Literal["fp32", "bf16"]:
    """Return the precision that `precision: auto` means: bf16 if all CUDA devices that are used have bf16 units, else fp32.

    On CPUs it is always fp32, so that a benchmark file means the same on processors with and without bf16 instructions.
    """
    name = parse_device(device)
    if name.kind != "cuda":
        return "fp32"
    inventory = inventory or TorchDevices()
    indices = range(inventory.count()) if name.index is None else [name.index]
    capabilities = [inventory.facts(index).capability for index in indices]
    return precision_of_capability(min(capabilities)[0])


def precision_of_capability(major: int) -> Literal["fp32", "bf16"]:
    """Return the precision for a CUDA device by the major number of its compute capability; 8.0 and later compute in bf16."""
    return "bf16" if major >= _BF16_SINCE else "fp32"


def forbid_tf32_in_environment() -> None:
    """Change the environment so that neither torch nor CUDA's libraries use TF32 for float32. Call it before torch is imported.

    NVIDIA's containers set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1, which changes torch's initial flags. NVIDIA_TF32_OVERRIDE
    overrules the flags within cuBLAS and cuDNN.
    """
    os.environ.pop("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"


def selected_devices() -> str:
    """Return the environment variables that select devices, as `CUDA_VISIBLE_DEVICES='0,1'`; empty if none is set."""
    found = [f"{name}='{os.environ[name]}'" for name in _SELECTORS if name in os.environ]
    return ", ".join(found)


def _selection() -> str:
    """Return a part of a sentence about devices that environment variables hide."""
    selected = selected_devices()
    return f" ({selected} hides all others)" if selected else ""


def _why_none(inventory: DeviceInventory) -> str:
    """Return a part of a sentence that says why there is no CUDA device, as far as that is known."""
    if not inventory.build():
        return ": this torch is built without CUDA"
    selected = selected_devices()
    return f": {selected} hides all, or the driver does not work" if selected else ""


def _count_in_words(count: int) -> str:
    if count == 1:
        return "there is one CUDA device here, cuda:0"
    return f"there are {count} CUDA devices here, cuda:0 to cuda:{count - 1}"
