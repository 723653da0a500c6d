"""Which device each worker of a pool uses, and which devices are left out because they keep failing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence


class DeviceSlots:
    """The devices of a pool's workers, by the index of the worker.

    A device is left out after two failures that have no task in common: then the tasks are not the reason. A task may fail a
    device as often as it likes.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._failures: dict[str, list[frozenset[str]]] = defaultdict(list)
        self._left_out: set[str] = set()
        self.limit = 0
        """The number of workers that can run at once."""
        self.device_count = 0
        """The number of their devices. Workers whose device has no name have one each."""
        self._count()

    def is_usable(self, index: int) -> bool:
        """Return whether the device of a worker is not left out."""
        return self.devices[index] not in self._left_out

    def free(self, used: Collection[int]) -> int | None:
        """Return the lowest index of a worker that can be started; None if there is none. `used` are those of all workers."""
        for index in range(len(self.devices)):
            if index not in used and self.is_usable(index):
                return index
        return None

    def record_failure(self, device: str, tasks: Collection[str]) -> bool:
        """Record that a device failed during tasks, given by their keys; return whether it is left out from now on."""
        earlier = self._failures[device]
        if any(failure.isdisjoint(tasks) for failure in earlier):
            self._left_out.add(device)
            self._count()
        earlier.append(frozenset(tasks))
        return device in self._left_out

    def _count(self) -> None:
        usable = [device for device in self.devices if device not in self._left_out]
        named = [device for device in usable if device]
        self.limit = len(usable)
        self.device_count = len(usable) - len(named) + len(set(named))
