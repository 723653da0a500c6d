"""The performance benchmarks for a GPU, tested as far as a CPU can run them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ladder import RUNGS, Network, loader, resnet20, vit
from torch import nn

from harness.benchmark import load_benchmark
from harness.cli import COMMANDS
from harness.registry.catalogue import load_catalogue

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.sh"
SMALL = {"resnet20": resnet20(1, 16, batch=4), "vit": vit(16, batch=4, width=16, mlp=32, depth=1, heads=2)}


def parameter_count(module: nn.Module) -> int:
    """Return the number of a module's trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_rungs_that_need_no_gpu(network: Network) -> None:
    """Each rung takes steps; the harness and plain PyTorch have equally many parameters and equal batch sizes."""
    for rung in RUNGS:
        if not rung.needs_gpu:
            step = rung.make(network, "cpu")
            step()
            step()
    assert parameter_count(network.ours()) == parameter_count(network.plain())
    images, labels = next(iter(loader(network, 0)))
    assert images.shape == (4, 3, 16, 16)
    assert labels.shape == (4,)


def test_operations_are_counted() -> None:
    """ResNet20×4 takes 4.08 GFLOP per training image of 32×32 pixels, the paper's ViT 1.31 GFLOP."""
    assert resnet20(4).operations() == pytest.approx(4.08e9, rel=0.01)
    assert vit().operations() == pytest.approx(1.31e9, rel=0.05)


def test_gpu_script() -> None:
    """Its shell syntax is valid, its overrides fit the benchmark file, and its commands exist."""
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    text = SCRIPT.read_text()
    overrides = re.findall(r"--set '([^']+)'", text)
    benchmark = load_benchmark(SCRIPT.parent / "paper.yaml", load_catalogue(), overrides)
    assert len(list(benchmark.cells())) == 7
    assert set(re.findall(r"^harness ([a-z]+)", text, re.M)) <= set(COMMANDS)
