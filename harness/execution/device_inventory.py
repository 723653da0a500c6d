"""Which devices this process sees, as torch tells. The interface lets tests do without the devices."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass

_SMI_SECONDS = 20.0  # it starts slowly where the driver is not kept loaded


@dataclass(frozen=True)
class CudaDevice:
    """Facts about a CUDA device: its name, its memory in bytes, and its compute capability, (major, minor)."""

    name: str
    memory: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """Facts from `nvidia-smi`: the driver's version, and the compute mode of each GPU of the machine, hidden ones included."""

    version: str
    compute_modes: tuple[str, ...]


class DeviceInventory(ABC):
    """The devices that a process sees. Devices of ROCm are CUDA devices for torch, and here."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of CUDA devices that can be used."""

    @abstractmethod
    def facts(self, index: int) -> CudaDevice:
        """Return facts about the CUDA device with an index below `count()`."""

    @abstractmethod
    def build(self) -> str:
        """Return what torch was built with: `CUDA 13.0` or `ROCm 6.4`, empty for the CPU alone."""

    @abstractmethod
    def unsupported(self) -> tuple[str, ...]:
        """Return torch's names of devices that are there but that the harness does not use, such as `mps`."""

    @abstractmethod
    def driver(self) -> Driver | None:
        """Return facts about NVIDIA's driver; None if they are not known."""


class TorchDevices(DeviceInventory):
    """The devices that torch finds."""

    def count(self) -> int:
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def facts(self, index: int) -> CudaDevice:
        import torch

        properties = torch.cuda.get_device_properties(index)
        return CudaDevice(properties.name, properties.total_memory, (properties.major, properties.minor))

    def build(self) -> str:
        import torch

        if torch.version.hip:
            return f"ROCm {torch.version.hip}"
        return f"CUDA {torch.version.cuda}" if torch.version.cuda else ""

    def unsupported(self) -> tuple[str, ...]:
        import torch

        return tuple(name for name in ("mps", "xpu") if getattr(torch, name).is_available())

    def driver(self) -> Driver | None:
        command = ["nvidia-smi", "--query-gpu=driver_version,compute_mode", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        rows = [line.split(", ") for line in done.stdout.splitlines() if line.count(", ") == 1]
        if not rows:
            return None
        return Driver(rows[0][0], tuple(mode.strip() for _, mode in rows))
