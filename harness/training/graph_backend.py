"""What a captured step needs of a device: streams, graphs, a compiler. Knows nothing of networks or steps."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Stream(Protocol):
    """A queue of a device's work. Work on different streams may run at the same time."""

    def wait_stream(self, stream: Any, /) -> None:
        """Let the work queued here from now on wait for what the other stream holds now."""


class Graph(Protocol):
    """Work of a device that was recorded."""

    def replay(self) -> None:
        """Queue the recorded work once more, on the current stream."""


class GraphBackend(ABC):
    """One device that can record work as a graph."""

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
    def set_stream(self, stream: Stream) -> None:
        """Queue work on this stream from now on."""

    @abstractmethod
    def on_stream(self, stream: Stream) -> AbstractContextManager[Any]:
        """Queue work on this stream within the block."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> Graph:
        """Return the work that a function queues, recorded on a new stream and not run.

        If the function raises, another error may be raised, and the new stream may stay the current one.
        """

    @abstractmethod
    def compile(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a compiled form of a module, for inputs of one shape."""

    @abstractmethod
    def synchronization_forbidden(self) -> AbstractContextManager[None]:
        """Raise within the block if the host waits for the device, for example to read a value."""

    @abstractmethod
    def generator_state(self) -> Tensor:
        """Return the state of the device's global random generator, uint8 (bytes,)."""


class CudaGraphs(GraphBackend):
    """A CUDA device. `record` allocates from a memory pool that belongs to the graph."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def selected(self) -> AbstractContextManager[Any]:
        return torch.cuda.device(self._device)

    def new_stream(self) -> Stream:
        return torch.cuda.Stream(self._device)

    def current_stream(self) -> Stream:
        return torch.cuda.current_stream(self._device)

    def set_stream(self, stream: Any) -> None:
        torch.cuda.set_stream(stream)

    def on_stream(self, stream: Any) -> AbstractContextManager[Any]:
        return torch.cuda.stream(stream)

    def record(self, work: Callable[[], None]) -> Graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(self._device)):
            work()
        return graph

    def compile(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        return torch.compile(module, dynamic=False)

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


def graph_backend(device: torch.device) -> GraphBackend | None:
    """Return what records graphs on a device: `CudaGraphs` on a GPU, None on the CPU."""
    return CudaGraphs(device) if device.type == "cuda" else None


def capture(backend: GraphBackend, work: Callable[[], None]) -> Graph:
    """Return the work that a function queues, recorded as a graph.

    If the function raises, raise its error and give the current stream back: the end of a failed capture raises another error,
    which hides the cause, and leaves the capture's stream current.
    """
    caller_stream = backend.current_stream()
    cause: BaseException | None = None

    def work_noting_errors() -> None:
        nonlocal cause
        try:
            work()
        except BaseException as error:
            cause = error
            raise

    try:
        return backend.record(work_noting_errors)
    except BaseException as error:
        backend.set_stream(caller_stream)
        raise cause or error from None
