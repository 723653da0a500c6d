"""A stand-in for the devices of a machine."""

from __future__ import annotations

from collections.abc import Sequence

from harness.execution.device_inventory import CudaDevice, DeviceInventory, Driver


def gpu(name: str, capability: tuple[int, int], gibibytes: int = 80) -> CudaDevice:
    """Return a CUDA device."""
    return CudaDevice(name, gibibytes * 2**30, capability)


class StandInDevices(DeviceInventory):
    """The given devices, as if this process saw them."""

    def __init__(
        self,
        devices: Sequence[CudaDevice],
        build: str = "CUDA 13.0",
        unsupported: tuple[str, ...] = (),
        driver: Driver | None = None,
    ) -> None:
        self._driver = driver
        self._devices = list(devices)
        self._build = build
        self._unsupported = unsupported

    def count(self) -> int:
        return len(self._devices)

    def facts(self, index: int) -> CudaDevice:
        return self._devices[index]

    def build(self) -> str:
        return self._build

    def unsupported(self) -> tuple[str, ...]:
        return self._unsupported

    def driver(self) -> Driver | None:
        return self._driver
