"""A device that computes on the CPU, so that tests without a GPU see what a GPU would refuse or wait for.

`FakeDevice` is active within a `with` block. There, tensors are made on `DEVICE`, moved to it and copied back, and their
attribute `device` says so. torch knows the device's name but has no kernels for it. The numbers are in the memory of the CPU
and its kernels compute them, so results equal those of the CPU to the bit. What a GPU does differently is enforced or recorded:

- An operation on a tensor of the device and one of the host raises `DevicesMixed`. Single numbers () may mix, as on a GPU.
- Where the host reads a value of the device, or where a size depends on values, a GPU's host waits. The function of this
  project that does so is recorded, and within `no_waiting` it raises `HostWaits`.
- A copy between host and device is recorded, and raises `HostWaits`, in the same way.

Where another dispatch mode handles an operation, or a function of torch is written in Python, a call's device cannot be seen.
What is made there counts as being where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("ipu")
"""The device. torch knows the name and autocast accepts it; this project and this machine have no use for it."""

HOST = torch.device("cpu")

_PROJECT = Path(__file__).resolve().parent.parent
_CODE = (str(_PROJECT / "harness"), str(_PROJECT / "plugins"))

_INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}


_FACTORIES = {"tensor", "as_tensor", "ones", "zeros", "full", "eye", "linspace", "rand", "randn", "randint", "randperm"}
"""Functions that make tensors, and of which torch may call others that do."""


class DevicesMixed(RuntimeError):
    """An operation has tensors of the device and of the host."""


class HostWaits(RuntimeError):
    """The host needs a value of the device, or copies between the two."""


class FakeDevice:
    """The device within a `with` block.

    `reads`, `to_host` and `to_device` name the functions of this project that read a value, copy a tensor to the host, and copy
    one to the device, as in `trainer.Trainer.end_epoch`. With `like_cuda`, the tensors' attribute `is_cuda` is True, so that
    networks take their branch for GPUs.
    """

    def __init__(self, *, like_cuda: bool = False) -> None:
        self.like_cuda = like_cuda
        self.reads: set[str] = set()
        self.to_host: set[str] = set()
        self.to_device: set[str] = set()
        self._waiting_forbidden = False
        self._storages: dict[int, StorageWeakRef] = {}
        self._unseen: dict[int, StorageWeakRef] = {}
        self.calls: list[str] = []
        self._modes = (_Operations(self), _Calls(self))

    def __enter__(self) -> Self:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)

    @contextmanager
    def no_waiting(self) -> Iterator[None]:
        """Raise `HostWaits` within the block for every read and every copy."""
        self._waiting_forbidden = True
        try:
            yield
        finally:
            self._waiting_forbidden = False

    def has(self, tensor: Tensor) -> bool:
        """Return whether a tensor is on the device."""
        return _is_among(self._storages, tensor)

    def is_unseen(self, tensor: Tensor) -> bool:
        """Return whether a tensor was made where its device cannot be seen."""
        return _is_among(self._unseen, tensor)

    def take(self, tensor: Tensor, *, unseen: bool = False) -> None:
        """Let a tensor's memory belong to the device; with `unseen`, to where it is used."""
        with torch._C.DisableTorchFunction():
            reference = StorageWeakRef(tensor.untyped_storage())
        storages = self._unseen if unseen else self._storages
        storages[reference.cdata] = reference  # which keeps the address from being used for another storage

    def note(self, functions: set[str], what: str) -> None:
        """Add the project's function that is running to a set of functions; `what` it does is for the error."""
        function = _running_function()
        functions.add(function)
        if self._waiting_forbidden:
            raise HostWaits(f"{function}: {what}")


class _Calls(TorchFunctionMode):
    """Handles the calls that depend on a device's name: where a tensor is, where it is made, where it is moved to."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return self._to(args[0], args[1:], kwargs)
        if func is Tensor.cpu:
            return self._to(args[0], (HOST,), kwargs)
        if args and isinstance(args[0], Tensor) and self._device.has(args[0]):
            known = self._attributes().get(func)
            if known is not None:
                return known
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError("a tensor of the device cannot be an array; copy it to the host first")
            if func is Tensor.tolist:
                self._device.note(self._device.reads, "tolist reads the device's values")
        return self._made(func, args, kwargs)

    def _attributes(self) -> dict[Any, Any]:
        """Return the attributes of the device's tensors, by getter."""
        like_cuda = self._device.like_cuda
        return {
            Tensor.device.__get__: DEVICE,  # type: ignore[attr-defined]
            Tensor.is_cuda.__get__: like_cuda,  # type: ignore[attr-defined]
            Tensor.is_cpu.__get__: False,  # type: ignore[attr-defined]
        }

    def _to(self, tensor: Tensor, arguments: Any, options: dict[str, Any]) -> Tensor:
        """Convert a tensor's dtype with `Tensor.to`, and copy it if it is to be on the other side."""
        source = DEVICE if self._device.has(tensor) else HOST
        if arguments and isinstance(arguments[0], Tensor):
            other = arguments[0]
            arguments = (DEVICE if self._device.has(other) else HOST, other.dtype, *arguments[1:])
        kept = {name: options.pop(name) for name in ("copy", "memory_format") if name in options}
        target, dtype, _, _ = torch._C._nn._parse_to(*arguments, **options)
        if target is None or target.type == source.type:
            return tensor.to(dtype or tensor.dtype, **kept)
        if source == DEVICE:
            self._device.note(self._device.to_host, "a tensor is copied to the host")
        else:
            self._device.note(self._device.to_device, "a tensor is copied to the device")
        with _unchecked():
            moved = tensor.to(dtype or tensor.dtype, **{**kept, "copy": True})
        if source == HOST:
            self._device.take(moved)
        return moved

    def _made(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """Call a function; what it makes is on the device if its argument `device` says so."""
        if kwargs.get("device") is None or torch.device(kwargs["device"]).type != DEVICE.type:
            self._device.calls.append(getattr(func, "__name__", ""))
            try:
                return func(*args, **kwargs)
            finally:
                self._device.calls.pop()
        if func is torch.tensor:
            self._device.note(self._device.to_device, "numbers are copied to the device")
        result = func(*args, **{**kwargs, "device": HOST})
        for tensor in tree_leaves(result):
            self._device.take(tensor)
        return result


class _Operations(TorchDispatchMode):
    """Checks where the tensors of each operation are; its results are on the device if they are."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(self._device.has(tensor) for tensor in tensors):
            result = func(*args, **kwargs)
            if self._is_unseen(func, tensors):
                self._take(result, unseen=True)
            return result
        if func is torch.ops.aten.copy_.default:
            return self._copy(*tensors)
        for tensor in tensors:
            if tensor.dim() and not (self._device.has(tensor) or self._device.is_unseen(tensor)):
                raise DevicesMixed(f"{_running_function()}: {func} has tensors of the device and of the host")
        if _waits(func, tensors):
            self._device.note(self._device.reads, f"{func} needs values of the device")
        result = func(*args, **kwargs)
        self._take(result)
        return result

    def _take(self, result: Any, *, unseen: bool = False) -> None:
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._device.take(leaf, unseen=unseen)

    def _is_unseen(self, func: Any, tensors: list[Tensor]) -> bool:
        """Return whether the results of an operation without tensors of the device are where they are used."""
        if tensors:
            return all(self._device.is_unseen(tensor) for tensor in tensors)
        called = self._device.calls[-1] if self._device.calls else ""
        name = func.overloadpacket.__name__
        return bool(called) and called != name and called not in _FACTORIES

    def _copy(self, target: Tensor, source: Tensor) -> Tensor:
        if not (self._device.has(source) or self._device.is_unseen(source)):
            self._device.note(self._device.to_device, "a tensor is copied to the device")
        if not (self._device.has(target) or self._device.is_unseen(target)):
            self._device.note(self._device.to_host, "a tensor is copied to the host")
        return target.copy_(source)


def _is_among(storages: dict[int, StorageWeakRef], tensor: Tensor) -> bool:
    with torch._C.DisableTorchFunction():
        reference = storages.get(tensor.untyped_storage()._cdata)
    return reference is not None and not reference.expired()


@contextmanager
def _unchecked() -> Iterator[None]:
    """Let operations within the block be those of the CPU."""
    with _disable_current_modes():
        yield


def _waits(func: Any, tensors: list[Tensor]) -> bool:
    """Return whether an operation's result is a number for the host, or has a size that depends on values."""
    if func in _INDEXING:
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


def _running_function() -> str:
    """Return the innermost function of the project on the stack: `module.function` or `module.Class.function`."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename.startswith(_CODE):
            function = frame.f_code.co_qualname.partition(".<locals>")[0]
            return f"{Path(frame.f_code.co_filename).stem}.{function}"
    return "a test"
