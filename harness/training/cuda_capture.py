"""One CUDA graph from its capture to its end. A capture that fails gives back all that it took.

torch's own clean-up of a failed capture depends on the version. If `cudaStreamEndCapture` fails, torch 2.6 to 2.11 do not end
the allocator's routing of memory to the graph's pool. Some versions release the pool when the graph is reset, others never do.
Therefore each capture has a pool whose number of users is known, and what is left after torch's clean-up is undone here.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_END_ROUTING = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # torch >= 2.8; 2.6 and 2.7

_ABANDONED: list[Any] = []
"""Graphs whose capture could not be ended: the allocator of pinned memory may keep a pointer to such a graph. Pools that
something else still uses: torch ends the process if such a pool is freed."""


@dataclass(frozen=True)
class Allocator:
    """The functions of torch's CUDA allocator that end what a failed capture began.

    `end_routing` and `release` take a device's index and a pool's id. torch calls them private; a missing one is None.
    """

    end_routing: Callable[[int, Any], None] | None
    release: Callable[[int, Any], None] | None

    @classmethod
    def of(cls, functions: Any) -> Allocator:
        """Return the functions that a version of torch has; `functions` is its module `torch._C`."""
        end_routing = None
        for name in _END_ROUTING:
            end_routing = end_routing or getattr(functions, name, None)
        return cls(end_routing, getattr(functions, "_cuda_releasePool", None))


class CudaGraph:
    """A captured graph with its memory pool. torch 2.6 asserts that a pool that is freed has no other user."""

    def __init__(self, graph: Any, pool: Any) -> None:
        self._graph = graph
        self._pool = pool

    def replay(self) -> None:
        """Queue the captured work on the current stream."""
        self._graph.replay()

    def __del__(self) -> None:
        self._graph = None  # before the pool


class CudaCapture:
    """A capture on the current stream of a device. `graph` is a `torch.cuda.CUDAGraph`, `pool` a `torch.cuda.MemPool`."""

    def __init__(self, device: int, graph: Any, pool: Any, allocator: Allocator) -> None:
        self._device = device
        self._graph = graph
        self._pool = pool
        self._allocator = allocator
        self._is_capturing = False

    @classmethod
    def on_current_device(cls) -> CudaCapture:
        """Return a capture that has not begun, after memory was freed for it."""
        torch.cuda.synchronize()
        gc.collect()
        torch.cuda.empty_cache()
        return cls(torch.cuda.current_device(), torch.cuda.CUDAGraph(), torch.cuda.MemPool(), Allocator.of(torch._C))

    def begin(self) -> None:
        """Begin the capture on the current stream."""
        self._graph.capture_begin(pool=self._pool.id)
        self._is_capturing = True

    def end(self) -> CudaGraph:
        """End the capture, and return its graph."""
        self._is_capturing = False
        self._graph.capture_end()
        return CudaGraph(self._graph, self._pool)

    def undo(self) -> None:
        """End the capture and the routing of memory to the pool; release the pool until only this object uses it.

        An error here is not raised; the next use of the device finds what is left.
        """
        with contextlib.suppress(Exception):
            self._free_graph()
        with contextlib.suppress(Exception):  # raised if the routing has ended, as it should have
            if self._allocator.end_routing is not None:
                self._allocator.end_routing(self._device, self._pool.id)
        with contextlib.suppress(Exception):
            for _ in range(self._pool.use_count() - 1):
                if self._allocator.release is not None:
                    self._allocator.release(self._device, self._pool.id)
        self._free_pool()

    def _free_graph(self) -> None:
        """End the capture and free the graph. Keep one whose capture cannot be ended, after it was told to free all it has."""
        graph, self._graph = self._graph, None
        if self._is_capturing:
            self._is_capturing = False
            with contextlib.suppress(Exception):
                graph.capture_end()
                return
        _ABANDONED.append(graph)
        graph.reset()

    def _free_pool(self) -> None:
        """Free the pool, and with it its memory, unless something else uses it. The caller's frame may outlive the capture."""
        pool, self._pool = self._pool, None
        is_ours = False
        with contextlib.suppress(Exception):
            is_ours = pool.use_count() == 1
        if not is_ours:
            _ABANDONED.append(pool)
