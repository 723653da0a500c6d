"""The fake device refuses and records what a GPU would refuse or wait for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fake_device import DEVICE, DevicesMixed, FakeDevice, HostWaits
from harness import streams


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.arange(4, device=DEVICE),
        lambda: torch.arange(4).to("ipu"),
        lambda: torch.arange(4).to(DEVICE, torch.float64),
        lambda: torch.zeros_like(torch.ones(4).to(DEVICE)),
        lambda: torch.empty(4).to(torch.zeros(2, device=DEVICE)),
        lambda: torch.ones(4).to(DEVICE).new_zeros(3),
        lambda: torch.tensor([1.0, 2.0], device=DEVICE).mul_(2).view(2, 1).T,
        lambda: torch.nn.Linear(4, 3).to(DEVICE).weight,
        lambda: torch.nn.Linear(4, 3).to(DEVICE)(torch.ones(2, 4, device=DEVICE)),
        lambda: torch.ones(3, device=DEVICE) * torch.tensor(2.0),
    ],
)
def test_tensors_on_the_device(make: Callable[[], Tensor]) -> None:
    """What is made there, moved there, or computed from that is there; a single number of the host may be an operand."""
    with FakeDevice():
        assert make().device == DEVICE


def test_tensors_of_the_host() -> None:
    """What is made without a device, or copied back, is on the CPU and can be an array."""
    with FakeDevice() as device:
        ones = torch.ones(2, device=DEVICE)
        assert torch.ones(2).device.type == "cpu"
        assert ones.cpu().device.type == "cpu"
        assert ones.to("cpu", torch.float64).numpy().sum() == 2
        assert device.to_host == {"a test"}
        with pytest.raises(TypeError, match="copy it to the host first"):
            ones.numpy()


@pytest.mark.parametrize(
    "mix",
    [
        lambda ones: ones + torch.ones(2),
        lambda ones: torch.cat([ones, torch.ones(2)]),
        lambda ones: ones[torch.tensor([0])],
        lambda ones: ones.index_select(0, torch.tensor([0])),
        lambda ones: torch.nn.Linear(2, 2)(ones),
        lambda ones: torch.equal(ones, torch.ones(2)),
    ],
)
def test_mixed_devices(mix: Callable[[Tensor], object]) -> None:
    """An operation with tensors of both raises an error."""
    with FakeDevice(), pytest.raises(DevicesMixed, match=r"a test: aten.* has tensors of the device and of the host"):
        mix(torch.ones(2, device=DEVICE))


@pytest.mark.parametrize(
    "read",
    [
        lambda ones: float(ones.sum()),
        lambda ones: int(ones[0]),
        lambda ones: bool((ones > 0).all()),
        lambda ones: 1 if ones[0] > 0 else 2,
        lambda ones: ones.tolist(),
        lambda ones: ones[ones > 0],
        lambda ones: ones.nonzero(),
        lambda ones: ones.unique(),
        lambda ones: torch.equal(ones, ones.clone()),
        lambda ones: torch.repeat_interleave(ones, torch.ones(2, dtype=torch.int64, device=DEVICE)),
        lambda ones: ones.masked_select(ones > 0),
        lambda ones: ones.index_put_((ones > 0,), ones[0]),
        lambda ones: ones.cpu(),
        lambda ones: ones.copy_(torch.ones(2)),
        lambda ones: torch.zeros(2).copy_(ones),
        lambda ones: torch.tensor([0.5], device=DEVICE),
        lambda ones: torch.ones(2).to(DEVICE),
    ],
)
def test_waiting(read: Callable[[Tensor], object]) -> None:
    """Reads, sizes that depend on values, and copies are allowed and recorded, and raise an error where they are forbidden."""
    with FakeDevice() as device:
        read(torch.ones(2, device=DEVICE))
        assert device.reads | device.to_host | device.to_device == {"a test"}
        ones = torch.ones(2, device=DEVICE)
        with device.no_waiting(), pytest.raises(HostWaits, match="a test: "):
            read(ones)


def test_tensor_made_within_another_dispatch_mode() -> None:
    """Its device cannot be seen there, so it may be used with tensors of the device, and the result is on the device."""

    class Drawing(TorchDispatchMode):
        """Replaces random numbers by a range that it makes."""

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.ops.aten.bernoulli_.float:
                return args[0].copy_(torch.arange(4, device=args[0].device) * 2)
            return func(*args, **(kwargs or {}))

    with FakeDevice() as device, Drawing(), device.no_waiting():
        drawn = torch.zeros(4, device=DEVICE).bernoulli_(0.5)
        assert drawn.device == DEVICE
    assert drawn.tolist() == [0, 2, 4, 6]


def test_function_of_the_project_is_named() -> None:
    """A read is recorded with the innermost function of the project."""
    from harness.networks.evaluation import differ

    with FakeDevice() as device:
        assert differ(torch.ones(2, device=DEVICE), torch.zeros(2, device=DEVICE))
    assert device.reads == {"evaluation.differ"}


def test_numbers_are_those_of_the_cpu() -> None:
    """A permutation and a gradient are equal to the bit, and the device is the same in the backward pass."""

    def compute(device: str) -> list[Tensor]:
        order = streams.permutation(7, 50, device)
        weights = torch.linspace(0, 1, 50, device=device).requires_grad_()
        (gradient,) = torch.autograd.grad((weights[order].sin() * weights).sum(), weights)
        assert gradient.device == weights.device
        return [order.to("cpu"), gradient.to("cpu")]

    with FakeDevice():
        found = compute("ipu")
    for one, other in zip(found, compute("cpu"), strict=True):
        assert torch.equal(one, other)
