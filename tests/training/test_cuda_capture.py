"""The end of a failed CUDA capture, with doubles of torch's graph, pool and allocator in their versions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.training.cuda_capture import Allocator, CudaCapture, CudaGraph

POOL_ID = (0, 7)


class Device:
    """What torch's allocator knows of one pool: how many use it, and whether memory is routed to it."""

    def __init__(self, *, release_on_reset: bool, end_routing_on_error: bool) -> None:
        self.pools = 1
        self.users = 1
        self.routed = False
        self.release_on_reset = release_on_reset
        self.end_routing_on_error = end_routing_on_error

    def end_routing(self, device: int, pool: tuple[int, int]) -> None:
        """End the routing; torch raises if there is none."""
        assert (device, pool) == (3, POOL_ID)
        if not self.routed:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.routed = False

    def release(self, device: int, pool: tuple[int, int]) -> None:
        """Release the pool once; below zero, torch's allocator would be broken."""
        assert (device, pool) == (3, POOL_ID)
        self.users -= 1
        assert self.users >= 1


class FakePool:
    """A `torch.cuda.MemPool`, which must have no other user when it is freed."""

    id = POOL_ID

    def __init__(self, device: Device) -> None:
        self._device = device

    def use_count(self) -> int:
        """Return how many use the pool, its owner included."""
        return self._device.users

    def __del__(self) -> None:
        self._device.pools -= 1
        if self._device.users != 1:
            self._device.pools = -1


class FakeGraph:
    """A `torch.cuda.CUDAGraph` that can fail to begin or to end."""

    def __init__(self, device: Device, fails: str = "") -> None:
        self._device = device
        self._fails = fails
        self._ended = False
        self._holds = False

    def capture_begin(self, pool: tuple[int, int]) -> None:
        """Use the pool, route memory to it, begin."""
        assert pool == POOL_ID
        self._device.users += 1
        self._device.routed = self._holds = True
        if self._fails == "begin":
            raise RuntimeError("CUDA error: operation not permitted")

    def capture_end(self) -> None:
        """End the capture."""
        if self._fails == "end":
            if self._device.end_routing_on_error:
                self._device.routed = False
            raise RuntimeError("CUDA error: capturing stream has unjoined work")
        self._device.routed = False
        self._ended = True
        if self._fails == "instantiate":
            raise RuntimeError("CUDA error: out of memory")

    def replay(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Release the pool, as the version does it."""
        if self._holds and (self._ended or self._device.release_on_reset):
            self._device.users -= 1
            self._holds = False

    def __del__(self) -> None:
        self.reset()


VERSIONS = [(False, False), (False, True), (True, True)]
"""Whether a graph's reset releases the pool of a failed capture, and whether a failed end ends the routing."""


def run(fails: str, device: Device) -> CudaCapture:
    """Capture until something fails, and undo it."""
    allocator = Allocator(device.end_routing, device.release)
    recording = CudaCapture(3, FakeGraph(device, fails), FakePool(device), allocator)
    with pytest.raises(RuntimeError, match=r"CUDA error|in the block"):
        capture_until_failure(recording, fails)
    recording.undo()
    return recording


def capture_until_failure(recording: CudaCapture, fails: str) -> None:
    """Take the calls of a capture; the block raises if nothing else does."""
    recording.begin()
    if fails == "block":
        raise RuntimeError("in the block")
    recording.end()


@pytest.mark.parametrize(("release_on_reset", "end_routing_on_error"), VERSIONS)
@pytest.mark.parametrize("fails", ["begin", "block", "end", "instantiate"])
def test_failed_capture_gives_the_pool_back(fails: str, release_on_reset: bool, end_routing_on_error: bool) -> None:
    """After `undo`, no memory is routed to the pool, and it is freed without users, whatever torch has already undone."""
    device = Device(release_on_reset=release_on_reset, end_routing_on_error=end_routing_on_error)
    recording = run(fails, device)
    assert not device.routed
    assert device.users == 1
    assert device.pools == 0
    del recording
    assert device.users == 1


def test_captured_graph_uses_its_pool_until_it_is_freed() -> None:
    """The graph is freed before its pool."""
    device = Device(release_on_reset=True, end_routing_on_error=True)
    recording = CudaCapture(3, FakeGraph(device), FakePool(device), Allocator(device.end_routing, device.release))
    recording.begin()
    graph = recording.end()
    assert isinstance(graph, CudaGraph)
    del recording
    graph.replay()
    assert device.users == 2
    del graph
    assert device.users == 1


def test_functions_of_the_allocator_by_version() -> None:
    """The function that ends the routing has another name up to torch 2.7; a missing one is None and is not called."""
    old = SimpleNamespace(_cuda_endAllocateCurrentStreamToPool="old", _cuda_releasePool="release")
    new = SimpleNamespace(_cuda_endAllocateToPool="new", _cuda_releasePool="release")
    assert Allocator.of(old) == Allocator("old", "release")
    assert Allocator.of(new) == Allocator("new", "release")
    assert Allocator.of(SimpleNamespace()) == Allocator(None, None)
    device = Device(release_on_reset=True, end_routing_on_error=True)
    recording = CudaCapture(3, FakeGraph(device, "end"), FakePool(device), Allocator.of(SimpleNamespace()))
    with pytest.raises(RuntimeError, match="unjoined"):
        capture_until_failure(recording, "end")
    recording.undo()
    assert device.users == 1
    assert device.pools == 0


def test_pool_that_cannot_be_released_is_kept() -> None:
    """torch ends the process if a pool is freed that a graph still uses."""
    device = Device(release_on_reset=False, end_routing_on_error=True)
    recording = CudaCapture(3, FakeGraph(device, "end"), FakePool(device), Allocator.of(SimpleNamespace()))
    with pytest.raises(RuntimeError, match="unjoined"):
        capture_until_failure(recording, "end")
    recording.undo()
    del recording
    assert (device.users, device.pools) == (2, 1)


def test_installed_torch_has_the_functions() -> None:
    """A version of torch built for CUDA that renames them is noticed here."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("torch is not built for CUDA")
    allocator = Allocator.of(torch._C)
    assert allocator.end_routing is not None
    assert allocator.release is not None
