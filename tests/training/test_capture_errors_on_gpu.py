"""Captures that fail on a CUDA device, and what works afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.training.trace import NotCapturable
from training.captured import captured, copies, equal
from training.graph_checks import Reads, WhileCapturing, backend_of, distance_of_replays, perceptrons, with_layer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

TESTS = Path(__file__).resolve().parent.parent


def test_capture_that_fails_between_forked_streams() -> None:
    """The memory of the capture is released, the generator draws, and the next capture works, in one process."""
    paths = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "training.poisoned_capture", "cuda"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "usable\n"), done.stderr


def test_fifth_sibling_that_does_not_fit() -> None:
    """The device's own out-of-memory error within a capture is raised; fewer siblings can be captured afterwards."""
    graphs = backend_of("cuda")
    everything = torch.cuda.get_device_properties(0).total_memory
    hungry = WhileCapturing(graphs, lambda: torch.empty(everything, dtype=torch.uint8, device="cuda"))
    trainers = with_layer(perceptrons("cuda"), hungry, members=5)
    before = copies(trainers)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        captured(trainers, graphs)
    assert equal(copies(trainers), before)
    for members in (3, 2):
        assert distance_of_replays(perceptrons("cuda"), graphs, members=members) < 0.02


def test_network_that_reads_a_value() -> None:
    """The capture refuses it and names the reason; the next capture works."""
    graphs = backend_of("cuda")
    trainers = with_layer(perceptrons("cuda"), Reads(), members=2)
    before = copies(trainers)
    with pytest.raises((RuntimeError, NotCapturable), match="synchroniz"):
        captured(trainers, graphs)
    assert equal(copies(trainers), before)
    assert torch.cuda.get_sync_debug_mode() == 0
    assert distance_of_replays(perceptrons("cuda"), graphs) < 0.02
