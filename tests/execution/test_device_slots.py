"""Which device each worker of a pool uses, and when a device is left out."""

from __future__ import annotations

from harness.execution.engines.device_slots import DeviceSlots


def test_failures_in_one_task() -> None:
    """A task that fails a device again and again does not speak against the device."""
    slots = DeviceSlots(["cuda:0", "cuda:1"])
    assert not slots.record_failure("cuda:0", ["a"])
    assert not slots.record_failure("cuda:0", ["a"])
    assert slots.limit == 2


def test_failures_of_a_group_and_of_one_of_its_tasks() -> None:
    """The task of both failures may be the reason."""
    slots = DeviceSlots(["cuda:0"])
    assert not slots.record_failure("cuda:0", ["a", "b", "c"])
    assert not slots.record_failure("cuda:0", ["b"])
    assert slots.record_failure("cuda:0", ["c"])


def test_failures_in_two_tasks() -> None:
    """The device is left out for all workers that share it; the others start on the other devices."""
    slots = DeviceSlots(["cuda:0", "cuda:1", "cuda:0"])
    assert slots.free([]) == 0
    assert slots.free([0]) == 1
    assert not slots.record_failure("cuda:0", ["a"])
    assert not slots.record_failure("cuda:1", ["b"])
    assert slots.record_failure("cuda:0", ["b"])
    assert slots.limit == 1
    assert [slots.is_usable(index) for index in range(3)] == [False, True, False]
    assert slots.free([]) == 1
    assert slots.free([1]) is None


def test_last_device_is_left_out() -> None:
    """No worker can be started."""
    slots = DeviceSlots(["cuda:0"])
    slots.record_failure("cuda:0", ["a"])
    slots.record_failure("cuda:0", ["b"])
    assert slots.limit == 0
    assert slots.free([]) is None


def test_number_of_devices() -> None:
    """Workers share devices of one name; without a name each has its own. A device that is left out does not count."""
    assert DeviceSlots(["cuda:0", "cuda:1", "cuda:0", "cuda:1"]).device_count == 2
    assert DeviceSlots(["", "", ""]).device_count == 3
    slots = DeviceSlots(["cuda:0", "cuda:1", "cuda:0"])
    slots.record_failure("cuda:0", {"a"})
    assert (slots.device_count, slots.limit) == (2, 3)
    slots.record_failure("cuda:0", {"b"})
    assert (slots.device_count, slots.limit) == (1, 1)
