"""Try one model of timm through the harness: build, train, store, reload, interpolate, trace the symmetry."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SIZES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 384)
"""Image sizes to try, in this order."""

CLASSES = 10
WORKS = "yes"

PLUGIN = '''
"""Noise: a data set of random images of any size."""

import torch
from pydantic import Field

import harness
from harness import Dataset, Split, hookimpl


class Noise(Dataset):
    """Four random images for a single step of training, and as many to predict."""

    name, version = "noise", 1
    num_classes, train_size, fingerprint = 10, 4, "seed 0"
    normalization = ((0.5, 0.5, 0.5), (0.3, 0.3, 0.3))

    class Options(harness.Options):
        size: int = Field(32, description="height and width")

    @property
    def shape(self):
        return 3, self.options.size, self.options.size

    def load(self, root):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (8, *self.shape), generator=generator, dtype=torch.uint8)
        labels = torch.arange(8)
        return Split(images[:4], labels[:4]), Split(images[4:], labels[4:])


@hookimpl
def register_datasets(register):
    register(Noise)
'''

BENCHMARK = """
name: sweep
seeds: [0]
members: 2
datasets: [noise: {{size: {size}}}]
architectures: [timm/{model}]
methods: [deep]
metrics: [mean_member_accuracy, joint_connectivity: {{draws: 2}}]
recipe:
  epochs: 1
  batch_size: 4
  learning_rate: 0.001
  augmentation: {{crop_padding: 0, horizontal_flip: false}}
"""


@dataclass
class Line:
    """The outcome of each stage for a model: `yes`, the reason of a failure, or empty if the stage was not tried."""

    module: str
    model: str
    parameters: int
    image_size: str = ""
    build: str = ""
    train: str = ""
    reload: str = ""
    interpolate: str = ""
    symmetry: str = ""
    seconds: float = 0.0
    timm: str = ""
    torch: str = ""
    cpu: str = ""


STAGES = ("build", "train", "reload", "interpolate", "symmetry")
COLUMNS = [field.name for field in fields(Line)]


def try_model(line: Line) -> Iterator[Line]:
    """Fill in a line, and yield it after each stage. A stage that fails does not prevent the later ones that can be tried."""
    size, line.build = _image_size(line.model)
    if not size:
        yield line
        return
    line.image_size = str(size)
    yield line
    with tempfile.TemporaryDirectory() as folder:
        _run(line, size, Path(folder))
    yield line
    line.symmetry = _outcome(lambda: _trace(line.model, size))
    yield line


def _image_size(model: str) -> tuple[int, str]:
    """Return the smallest image size for which a model can be built, or 0 and the reason."""
    reason = ""
    for size in SIZES:
        reason = _outcome(lambda size=size: _build(model, size))
        if reason == WORKS:
            return size, WORKS
    return 0, reason


def _build(model: str, size: int, stream: int = 0) -> nn.Module:
    """Return a network with random weights from a stream."""
    from harness import streams
    from harness.registry.catalogue import load_catalogue

    architecture = load_catalogue().create("architecture", f"timm/{model}")
    with streams.seeded(stream):
        network: nn.Module = architecture.build((3, size, size), CLASSES)
    return network


def _trace(model: str, size: int) -> None:
    """Derive the permutation symmetry of a network; raise if that fails or no hidden unit can be permuted."""
    import torch

    from harness_basin.matching import derive_symmetry

    symmetry = derive_symmetry(_build(model, size), torch.randn(2, 3, size, size))
    if not symmetry.groups:
        raise ValueError("no unit may change places")


def _run(line: Line, size: int, folder: Path) -> None:
    """Train, store, predict and interpolate with `harness run`; load a stored member."""
    _write_plugin(folder)
    (folder / "sweep.yaml").write_text(BENCHMARK.format(size=size, model=line.model))
    ended = _harness(folder, "run", "sweep.yaml", "--workers", "1", "--device", "cpu", "--store", "store", "--out", "out")
    if ended.returncode < 0:  # rows, if any, do not mention the signal
        line.train = f"harness run was ended by signal {-ended.returncode}"
        return
    if not (folder / "out" / "results.csv").is_file():
        line.train = last_line(ended.stderr) or f"harness run ended with {ended.returncode}"
        return
    with (folder / "out" / "results.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    members = _harness(folder, "members", "out", "--json")
    if members.returncode:
        line.train = last_line(members.stderr) or f"harness members ended with {members.returncode}"
        return
    paths = [Path(member["path"]) for member in json.loads(members.stdout)]
    stored = [path for path in paths if path.is_file()]
    line.train = WORKS if len(stored) == 2 else _status(rows["mean_member_accuracy"])
    if line.train == WORKS:
        line.reload = _status(rows["mean_member_accuracy"])
        line.interpolate = _status(rows["joint_connectivity"])
        if line.reload == WORKS:
            line.reload = _outcome(lambda: _reload(line.model, size, stored[0]))


def _write_plugin(folder: Path) -> None:
    """Write the plugin with the data set, as an installed distribution."""
    (folder / "noise.py").write_text(PLUGIN)
    metadata = folder / "noise-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: noise\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text("[harness]\nnoise = noise\n")


def _harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `harness` in a folder, with the folder on the module path."""
    python_path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": python_path}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _reload(model: str, size: int, path: Path) -> None:
    """Load a stored member into two fresh networks; raise if their outputs differ."""
    import torch
    from safetensors.torch import load_file

    from harness.networks.flat_network import FlatNetwork

    state = load_file(path)
    images = torch.linspace(-1, 1, 2 * 3 * size * size).view(2, 3, size, size)
    outputs = []
    for stream in (1, 2):
        network = FlatNetwork(_build(model, size, stream))
        network.load(state)
        with torch.no_grad():
            outputs.append(network.module.eval()(images))
    one, other = outputs
    if not torch.equal(one, other):
        raise ValueError(f"two networks with the stored weights differ by {(one - other).abs().max():.3g}")


def _status(row: dict[str, str]) -> str:
    """Return the outcome of a row of results.csv."""
    if row["status"] == "done":
        return WORKS
    return row["message"]


def _outcome(function: Callable[[], object]) -> str:
    """Return `yes`, or the error that a function raises, on one line."""
    try:
        function()
    except Exception as error:  # a model may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return WORKS


def last_line(text: str) -> str:
    """Return the last line of text that is not blank, or an empty string."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
