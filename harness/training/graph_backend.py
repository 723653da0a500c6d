"""What a captured step needs of a device: streams, graphs, a compiler. Knows nothing of networks or steps."""

from __future__ import annotations

import gc
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import DeviceBroken, is_out_of_memory
from harness.text import describe_error
from harness.training.compiler import Forward
from harness.training.cuda_capture import CudaCapture


class Stream(Protocol):
    """A queue of a device's work. Work on different streams may run at the same time."""

    def wait_stream(self, stream: Any, /) -> None:
        """Let the work queued here from now on wait for what the other stream holds now."""


class Graph(Protocol):
    """Work of a device that was recorded. Its memory is freed with it."""

    def replay(self) -> None:
        """Queue the recorded work once more, on the current stream."""


class Capture(Protocol):
    """One recording of the work that is queued on the current stream and on the streams that wait for it.

    `undo` may be called at any time instead of `end`, also after `begin` or `end` has failed.
    """

    def begin(self) -> None:
        """Record the work that is queued from now on, instead of running it. Its memory comes from a pool of its own."""

    def end(self) -> Graph:
        """End the recording, and return what was recorded. All streams must have been joined with the current one."""

    def undo(self) -> None:
        """End the recording, and free what was recorded and its memory. It raises nothing; `verify` finds what is left."""


class GraphBackend(ABC):
    """One device that can record work as a graph. `compiled_shapes` has the shapes of networks that were compiled for it."""

    def __init__(self) -> None:
        self.compiled_shapes: set[tuple[Any, ...]] = set()

    @abstractmethod
    def selected(self) -> AbstractContextManager[Any]:
        """Make the device the current one within the block."""

    @abstractmethod
    def new_stream(self) -> Stream:
        """Return a stream of the device other than the current one."""

    @abstractmethod
    def current_stream(self) -> Stream:
        """Return the stream on which work is queued."""

    @abstractmethod
    def on_stream(self, stream: Stream) -> AbstractContextManager[Any]:
        """Queue work on this stream within the block."""

    @abstractmethod
    def new_capture(self) -> Capture:
        """Return a recording that has not begun."""

    @abstractmethod
    def verify(self) -> None:
        """Raise if this process cannot use the device. This resets what a failed recording has left behind."""

    @abstractmethod
    def compile(self, forward: Forward) -> Forward:
        """Return a compiled form of a forward pass, for inputs of one shape."""

    @abstractmethod
    def synchronization_forbidden(self) -> AbstractContextManager[None]:
        """Raise within the block if the host waits for the device, for example to read a value."""

    @abstractmethod
    def generator_state(self) -> Tensor:
        """Return the state of the device's global random generator, uint8 (bytes,)."""


class CudaGraphs(GraphBackend):
    """A CUDA device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __str__(self) -> str:
        return str(self._device)

    def selected(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._device)

    def new_stream(self) -> Stream:
        return torch.cuda.Stream(self._device)

    def current_stream(self) -> Stream:
        return torch.cuda.current_stream(self._device)

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        return torch.cuda.stream(stream)

    def new_capture(self) -> Capture:
        return CudaCapture.on_current_device()

    def verify(self) -> None:
        """Allocate, compute and draw on the device.

        A capture that was not ended leaves the default generator capturing (seen with torch 2.11), so that every later draw
        raises. A clone of its state is not capturing.
        """
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
        torch.cuda.synchronize()
        gc.collect()  # errors of the compiler hold frames, and these memory
        torch.cuda.empty_cache()  # raises if the allocator takes a capture to be under way
        numbers = torch.zeros(1, device=self._device) + torch.rand(1, device=self._device)
        if not 0 <= float(numbers) < 1:
            raise RuntimeError(f"a random number is {float(numbers)}")

    def compile(self, forward: Forward) -> Forward:
        return torch.compile(forward, dynamic=False, fullgraph=True)

    @contextmanager
    def synchronization_forbidden(self) -> Iterator[None]:
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls the mode a prototype
            torch.cuda.set_sync_debug_mode("error")
            try:
                yield
            finally:
                torch.cuda.set_sync_debug_mode(mode)

    def generator_state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device)


@cache
def graph_backend(device: torch.device) -> GraphBackend | None:
    """Return what records graphs on a device: `CudaGraphs` on a GPU, None on the CPU. It is one object per process."""
    return CudaGraphs(device) if device.type == "cuda" else None


def capture(backend: GraphBackend, work: Callable[[], Any]) -> Graph:
    """Return the work that a function queues, recorded as a graph on a stream of its own and not run.

    If anything fails, undo the recording and raise the first error. The caller's stream is the current one again.
    """
    recording = backend.new_capture()
    with backend.on_stream(backend.new_stream()):
        try:
            recording.begin()
            work()
            return recording.end()
        except BaseException:
            recording.undo()
            raise


@contextmanager
def forked(backend: GraphBackend, streams: Sequence[Stream]) -> Iterator[None]:
    """Let streams wait for the current one at the start of the block, and the current one for all of them at its end.

    The streams are joined after an error too: a recording with a stream that was not joined cannot be ended.
    """
    caller_stream = backend.current_stream()
    try:
        for stream in streams:
            stream.wait_stream(caller_stream)
        yield
    except BaseException:
        _join(caller_stream, streams)
        raise
    failure = _join(caller_stream, streams)
    if failure is not None:
        raise failure


def _join(caller_stream: Stream, streams: Sequence[Stream]) -> Exception | None:
    """Let a stream wait for all of the others, and return the first error; one that fails does not keep the others."""
    failure: Exception | None = None
    for stream in streams:
        try:
            caller_stream.wait_stream(stream)
        except Exception as error:
            failure = failure or error
    return failure


def verify_after(backend: GraphBackend, reason: str) -> None:
    """Raise `DeviceBroken` if the device cannot be used by this process any more after a failure, whose `reason` is given."""
    try:
        with backend.selected():
            backend.verify()
    except Exception as error:
        if is_out_of_memory(error):
            return
        raise DeviceBroken(f"{backend}: unusable in this process after a failure ({reason}): {describe_error(error)}") from None
