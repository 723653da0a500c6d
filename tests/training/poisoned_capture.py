"""A capture that runs out of memory between forked streams, and what must work after it in the same process.

`python -m training.poisoned_capture cuda` fails unless all of it works. A process of its own runs it, since a failed capture
may leave a process that can use the device no more.
"""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from harness.training.graph_backend import GraphBackend, verify_after
from training.captured import captured, copies, equal
from training.graph_checks import WhileCapturing, backend_of, distance_of_replays, perceptrons, with_layer

POOL = 2**28
"""Bytes that the capture allocates before it fails."""


def poison(device: str, graphs: GraphBackend) -> None:
    """Capture three siblings, of which the last one runs out of memory; its error is raised and the state is restored."""

    def run_out_of_memory() -> None:
        kept.append(torch.empty(POOL, dtype=torch.uint8, device=device))
        kept.clear()
        raise torch.OutOfMemoryError("full")

    kept: list[torch.Tensor] = []
    trainers = with_layer(perceptrons(device), WhileCapturing(graphs, run_out_of_memory), members=3)
    before = copies(trainers)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        captured(trainers, graphs)
    assert equal(copies(trainers), before)


def check_memory(device: str, reserved_before: int) -> None:
    """Check that the memory of the failed capture was released, but for the workspaces of cuBLAS, of 32 MiB a stream."""
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    kept = torch.cuda.memory_reserved(device) - reserved_before
    assert kept < POOL // 2, f"{kept} bytes of the failed capture are still reserved"


def check_generator(device: str) -> None:
    """Check that torch's generator of the device draws, which it refuses if it still belongs to a capture."""
    torch.manual_seed(0)
    numbers = torch.rand(1000, device=device)
    dropped = torch.nn.functional.dropout(torch.ones(1000, device=device), 0.5)
    assert 0.4 < float(numbers.mean()) < 0.6
    assert 300 < int((dropped == 0).sum()) < 700


def main(device: str) -> None:
    """Poison a capture twice; then draw numbers, release memory, and capture siblings that replay what eager steps do."""
    graphs = backend_of(device)
    for _ in range(2):
        reserved = torch.cuda.memory_reserved(device) if device != "cpu" else 0
        stream = graphs.current_stream()
        poison(device, graphs)
        assert graphs.current_stream() == stream
        verify_after(graphs, "full")
        if device != "cpu":
            check_memory(device, reserved)
        check_generator(device)
        assert distance_of_replays(perceptrons(device), graphs, members=3) < 0.02


if __name__ == "__main__":
    main(sys.argv[1])
    print("usable")
