"""The benchmark of these tests: one linear network on a few points, whose training takes less time than torch's import.

With `--workers 2` and one member, a run starts one worker process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.command_line import FILE

COMMAND = [sys.executable, "-P", "-m", "harness"]
SMALL = {
    **FILE,
    "members": 1,
    "datasets": ["points"],
    "architectures": ["line"],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
}
DIGITS = {**SMALL, "datasets": FILE["datasets"]}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, user namespaces and /dev/full")


POINTS = """
import harness

class Points(harness.Dataset):
    name = "points"
    shape, num_classes, fingerprint = (1, 2, 2), 2, "points-1"
    normalization = ((0.5,), (0.25,))
    train_size = 64

    def load(self, root):
        import torch
        labels = torch.arange(64) % 2
        images = (100 * labels[:, None, None, None] + 10).expand(-1, 1, 2, 2).to(torch.uint8).contiguous()
        return harness.Split(images, labels), harness.Split(images, labels)

class Line(harness.Architecture):
    name = "line"

    def build(self, shape, num_classes):
        import math
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))

@harness.hookimpl
def register_datasets(register):
    register(Points)

@harness.hookimpl
def register_architectures(register):
    register(Line)
"""


def results(folder: Path) -> bytes:
    """Return the rows of a run in the default folder, as bytes."""
    return (folder / "runs" / "small" / "results.csv").read_bytes()
