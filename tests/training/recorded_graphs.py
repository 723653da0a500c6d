"""A stand-in for CUDA graphs on the CPU: it records operations and their tensors, and replays them without Python code.

It holds what a CUDA device holds (memory pools, routing of memory to them, a capturing generator, streams), refuses what CUDA
refuses, and can fail at every point of a capture.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.training.compiler import Forward
from harness.training.graph_backend import Capture, Graph, GraphBackend, Stream

CALLER = "caller"


@dataclass
class Failure:
    """An error at a point of a capture, `times` times. `operation` is the number of the recorded operation that fails."""

    point: str
    error: Exception
    times: int = 1
    operation: int = 0


class Recording(TorchDispatchMode):
    """Records the operations within the block, with the tensors that they read and write.

    As in a CUDA graph, numbers that Python computes within the block become constants, and values cannot be read back.
    """

    def __init__(self, graphs: RecordedGraphs | None = None) -> None:
        super().__init__()
        self._graphs = graphs
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def __len__(self) -> int:
        return len(self._calls)

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run within the block (torch 2.10 and later)."""
        return True

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Let compiled code run within the block (older versions of torch)."""
        return True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value was read during the capture")
        if self._graphs is not None:
            self._graphs.reach("operation", operation=len(self._calls))
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


class RecordedGraph:
    """A recorded graph. Its pool is freed with it."""

    def __init__(self, graphs: RecordedGraphs, recording: Recording, pool: int) -> None:
        self._graphs = graphs
        self.recording = recording
        weakref.finalize(self, graphs.pools.discard, pool)

    def replay(self) -> None:
        """Run the operations again."""
        self._graphs.replays += 1
        self._graphs.reach("replay")
        if self._graphs.replays > 1:
            self._graphs.reach("second replay")
        self.recording.replay()


class RecordedCapture:
    """A recording on the stand-in. As with CUDA, one that cannot be ended keeps its pool, its routing and the generator."""

    def __init__(self, graphs: RecordedGraphs) -> None:
        self._graphs = graphs
        self._recording = Recording(graphs)
        self._pool = next(graphs.pool_numbers)

    def begin(self) -> None:
        """Take a pool, route memory to it, let the generator capture, begin."""
        graphs = self._graphs
        graphs.pools.add(self._pool)
        graphs.routed.add(self._pool)
        graphs.reach("routing")
        graphs.generator_captures = True
        graphs.reach("generator")
        graphs.reach("begin")
        graphs.capture_stream = graphs.stream
        self._recording.__enter__()

    def end(self) -> Graph:
        """End the recording; refuse if a stream was not joined."""
        graphs = self._graphs
        self._leave()
        unjoined, graphs.unjoined = graphs.unjoined, set()
        graphs.reach("end")
        if unjoined:
            raise RuntimeError("capturing stream has unjoined work")
        graphs.routed.discard(self._pool)
        graphs.generator_captures = False
        graphs.reach("instantiate")
        return RecordedGraph(graphs, self._recording, self._pool)

    def undo(self) -> None:
        """End the recording, the routing and the pool."""
        self._leave()
        self._graphs.unjoined = set()
        self._graphs.undone += 1
        self._graphs.routed.discard(self._pool)
        self._graphs.pools.discard(self._pool)

    def _leave(self) -> None:
        if self._graphs.recording:
            self._graphs.capture_stream = None
            self._recording.__exit__(None, None, None)


class FakeStream:
    """A stream that logs for which streams it waits, and tells the device which streams are part of a capture."""

    def __init__(self, name: str, graphs: RecordedGraphs) -> None:
        self.name = name
        self._graphs = graphs

    def wait_stream(self, stream: Any, /) -> None:
        """Wait for another stream."""
        graphs = self._graphs
        if self is graphs.capture_stream:
            graphs.reach("join")
            graphs.unjoined.discard(stream.name)
        elif stream is graphs.capture_stream:
            graphs.reach("fork")
            graphs.unjoined.add(self.name)
        else:
            graphs.waits.append((self.name, stream.name))


class RecordedGraphs(GraphBackend):
    """Records graphs on the CPU.

    `compiled` has the graphs that the compiler traced, `waits` the pairs of waiting streams outside of captures. `pools`,
    `routed`, `generator_captures`, `unjoined` and `streams` are what the device holds. `broken` makes every use an error.
    """

    def __init__(self, failure: Failure | None = None, *, broken: bool = False) -> None:
        super().__init__()
        self.waits: list[tuple[str, str]] = []
        self.compiled: list[Any] = []
        self.failure = failure
        self.broken = broken
        self.pool_numbers = itertools.count()
        self.pools: set[int] = set()
        self.routed: set[int] = set()
        self.unjoined: set[str] = set()
        self.streams: weakref.WeakSet[FakeStream] = weakref.WeakSet()
        self.generator_captures = False
        self.capture_stream: FakeStream | None = None
        self.stream: Any = FakeStream(CALLER, self)
        self.replays = 0
        self.undone = 0
        self._stream_numbers = itertools.count(1)

    def __str__(self) -> str:
        return "stand-in"

    @property
    def recording(self) -> bool:
        """Whether a capture is under way."""
        return self.capture_stream is not None

    def reach(self, point: str, operation: int = 0) -> None:
        """Raise the error of this point of a capture, if there is one."""
        failure = self.failure
        if failure is None or (failure.point, failure.operation) != (point, operation) or not failure.times:
            return
        failure.times -= 1
        raise failure.error

    def selected(self) -> AbstractContextManager[None]:
        return nullcontext()

    def new_stream(self) -> Stream:
        self.reach("new stream")
        stream = FakeStream(f"stream {next(self._stream_numbers)}", self)
        self.streams.add(stream)
        return stream

    def current_stream(self) -> Stream:
        return self.stream

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before = self.stream
        self.stream = stream
        try:
            yield
        finally:
            self.stream = before

    def new_capture(self) -> Capture:
        self.replays = 0
        self.reach("new capture")
        return RecordedCapture(self)

    def verify(self) -> None:
        self.generator_captures = False
        if self.broken or self.routed or self.recording or self.stream.name != CALLER:
            raise RuntimeError("an illegal memory access was encountered")

    def compile(self, forward: Forward) -> Forward:
        """Return a form of a forward pass that torch's compiler has traced and that runs eagerly."""
        self.reach("compile")
        return torch.compile(forward, backend=self._trace, dynamic=False, fullgraph=True)

    def _trace(self, graph: Any, inputs: Any) -> Any:
        from torch._dynamo.backends.debugging import aot_eager

        self.reach("trace")
        self.compiled.append(graph)
        return aot_eager(graph, inputs)

    def synchronization_forbidden(self) -> AbstractContextManager[None]:
        self.reach("requirements")
        return nullcontext()

    def generator_state(self) -> Tensor:
        return torch.get_rng_state()


def recorded_operations(capture: Callable[[RecordedGraphs], Any]) -> int:
    """Return how many operations a function records."""
    graphs = RecordedGraphs()
    step = capture(graphs)
    return len(step._graph.recording)
