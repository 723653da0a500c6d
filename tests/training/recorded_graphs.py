"""A stand-in for CUDA graphs on the CPU: it records operations and their tensors, and replays them without Python code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.training.graph_backend import Graph, GraphBackend, Stream


class Recording(TorchDispatchMode):
    """Records the operations within the block, with the tensors that they read and write.

    As in a CUDA graph, numbers that Python computes within the block become constants, and values cannot be read back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value was read during the capture")
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations again, on the same tensors."""
        for func, args, kwargs, result in self._calls:
            again = func(*args, **kwargs)
            for tensor, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(tensor, Tensor) and tensor.data_ptr() != value.data_ptr():
                    tensor.copy_(value)


class FakeStream:
    """A stream that only logs for which streams it waits."""

    def __init__(self, name: str, waits: list[tuple[str, str]]) -> None:
        self.name = name
        self._waits = waits

    def wait_stream(self, stream: Any, /) -> None:
        """Log that this stream waits for another one."""
        self._waits.append((self.name, stream.name))


class RecordedGraphs(GraphBackend):
    """Records graphs on the CPU. `compiled` has the graphs that the compiler traced, `waits` the pairs of waiting streams."""

    def __init__(self) -> None:
        self.waits: list[tuple[str, str]] = []
        self.compiled: list[Any] = []
        self.recording = False
        self.stream: Any = FakeStream("caller", self.waits)
        self._streams = 0

    def selected(self) -> AbstractContextManager[None]:
        return nullcontext()

    def new_stream(self) -> Stream:
        self._streams += 1
        return FakeStream(f"stream {self._streams}", self.waits)

    def current_stream(self) -> Stream:
        return self.stream

    def set_stream(self, stream: Stream) -> None:
        self.stream = stream

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before = self.stream
        self.stream = stream
        try:
            yield
        finally:
            self.stream = before

    def record(self, work: Callable[[], None]) -> Graph:
        recording = Recording()
        self.recording = True
        try:
            with recording:
                work()
        finally:
            self.recording = False
        return recording

    def compile(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a form of a module that torch's compiler has traced and that runs eagerly."""
        return torch.compile(module, backend=self._trace, dynamic=False)

    def _trace(self, graph: Any, inputs: Any) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        self.compiled.append(graph)
        return aot_eager(graph, inputs)

    def synchronization_forbidden(self) -> AbstractContextManager[None]:
        return nullcontext()

    def generator_state(self) -> Tensor:
        return torch.get_rng_state()
