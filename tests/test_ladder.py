"""The benchmarks that only a GPU can run hold as far as a CPU can tell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ladder import RUNGS, Network, loader, resnet20, vit

from harness.benchmark import load_benchmark
from harness.cli import COMMANDS
from harness.registry.catalogue import load_catalogue

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.sh"
SMALL = {"resnet20": resnet20(1, 16, batch=4), "vit": vit(16, batch=4, width=16, mlp=32, depth=1, heads=2)}


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_rungs_that_need_no_gpu(network: Network) -> None:
    """Each takes steps; both sides have as many parameters and see batches of one size."""
    for rung in RUNGS:
        if not rung.needs_gpu:
            step = rung.make(network, "cpu")
            step(), step()
    sizes = [sum(parameter.numel() for parameter in make().parameters()) for make in (network.ours, network.plain)]
    assert sizes[0] == sizes[1]
    images, labels = next(iter(loader(network, 0)))
    assert images.shape == (4, 3, 16, 16)
    assert labels.shape == (4,)


def test_operations_are_counted() -> None:
    """ResNet20×4 takes 4.08 GFLOP a training image at 32 pixels, the paper's ViT 1.31."""
    assert resnet20(4).operations() == pytest.approx(4.08e9, rel=0.01)
    assert vit().operations() == pytest.approx(1.31e9, rel=0.05)


def test_script_for_a_gpu() -> None:
    """Its shell and its benchmark file with its changes are good, and its commands exist."""
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    text = SCRIPT.read_text()
    overrides = re.findall(r"--set '([^']+)'", text)
    benchmark = load_benchmark(SCRIPT.parent / "paper.yaml", load_catalogue(), overrides)
    assert len(list(benchmark.cells())) == 7
    assert set(re.findall(r"^harness ([a-z]+)", text, re.M)) <= set(COMMANDS)
