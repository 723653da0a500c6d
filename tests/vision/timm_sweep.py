"""Try one model of every module of timm through the harness, and keep what works in a table.

    python tests/vision/timm_sweep.py choose             # timm_models.csv: the smallest model of each module
    python tests/vision/timm_sweep.py run [MODEL …]      # a line of the table for each model; run again, it goes on
    python tests/vision/timm_sweep.py try MODEL          # one line as JSON

Each model is tried in a process of its own, with a time limit and a memory limit: built for the smallest images that it takes,
trained for a step by `harness run`, stored, loaded into fresh networks, interpolated, and traced for its symmetry.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).parents[2]
MODELS = Path(__file__).with_name("timm_models.csv")
TABLE = ROOT / "benchmarks" / "results" / "timm.csv"
SIZES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 384)
"""Image sizes tried, in this order."""

CLASSES = 10
WORKS = "yes"

PLUGIN = '''
"""Noise: a data set of random images of any size."""

import torch
from pydantic import Field

import harness
from harness import Dataset, Split, hookimpl


class Noise(Dataset):
    """Eight random images for a single step of training, and as many to predict."""

    name, version = "noise", 1
    num_classes, train_size, fingerprint = 10, 8, "seed 0"
    normalization = normalization = ((0.5, 0.5, 0.5), (0.3, 0.3, 0.3))

    class Options(harness.Options):
        size: int = Field(32, description="height and width")

    @property
    def shape(self):
        return 3, self.options.size, self.options.size

    def load(self, root):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (16, *self.shape), generator=generator, dtype=torch.uint8)
        labels = torch.arange(16) % 10
        return Split(images[:8], labels[:8]), Split(images[8:], labels[8:])


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
  batch_size: 8
  learning_rate: 0.001
  augmentation: {{crop_padding: 0, horizontal_flip: false}}
"""


@dataclass
class Line:
    """What works for a model: `yes`, or the reason why not; empty for what could not be tried."""

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


COLUMNS = [field.name for field in fields(Line)]


# Which models


def choose() -> Iterator[dict[str, Any]]:
    """Yield module, name and parameters of the smallest model of each module of timm."""
    import timm

    for module in sorted(timm.list_modules()):
        sizes = {name: size for name in timm.list_models(module=module) if (size := _parameters(name))}
        if sizes:
            smallest = min(sizes, key=lambda name: (sizes[name], name))
            yield {"module": module, "model": smallest, "parameters": sizes[smallest]}


def _parameters(name: str) -> int:
    """Return the number of a model's parameters, 0 where it cannot be made without memory."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name, num_classes=CLASSES).parameters())
    except Exception:  # some draw numbers from tensors as they are made
        return 0


def chosen(names: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the chosen models: all, or those named."""
    with MODELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = set(names)
    return [row for row in rows if not wanted or row["model"] in wanted]


# One model


def try_model(line: Line) -> Line:
    """Fill in a line; what fails leaves the rest to be tried where that is possible."""
    size, line.build = _image_size(line.model)
    if size:
        line.image_size = str(size)
        line.symmetry = _outcome(lambda: _trace(line.model, size))
        with tempfile.TemporaryDirectory() as folder:
            _run(line, size, Path(folder))
    return line


def _image_size(model: str) -> tuple[int, str]:
    """Return the smallest size that a model can be built for, or 0 and the reason."""
    reason = ""
    for size in SIZES:
        reason = _outcome(lambda size=size: _build(model, size))
        if reason == WORKS:
            return size, WORKS
    return 0, reason


def _build(model: str, size: int, stream: int = 0) -> nn.Module:
    from harness import streams
    from harness.registry.catalogue import load_catalogue

    architecture = load_catalogue().create("architecture", f"timm/{model}")
    with streams.seeded(stream):
        network: nn.Module = architecture.build((3, size, size), CLASSES)
    return network


def _trace(model: str, size: int) -> None:
    import torch

    from harness_basin.matching import derive_symmetry

    symmetry = derive_symmetry(_build(model, size), torch.randn(2, 3, size, size))
    if not symmetry.groups:
        raise ValueError("no unit may change places")


def _run(line: Line, size: int, folder: Path) -> None:
    """Train, store, predict and interpolate by `harness run`; load the stored members."""
    _write_plugin(folder)
    (folder / "sweep.yaml").write_text(BENCHMARK.format(size=size, model=line.model))
    ended = _harness(folder, "run", "sweep.yaml", "--workers", "1", "--device", "cpu", "--store", "store", "--out", "out")
    if not (folder / "out" / "results.csv").is_file():
        line.train = _last_line(ended.stderr) or f"harness run ended with {ended.returncode}"
        return
    with (folder / "out" / "results.csv").open(newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    listed = json.loads(_harness(folder, "members", "out", "--json").stdout)
    paths = [Path(member["path"]) for member in listed if Path(member["path"]).is_file()]
    line.train = WORKS if len(paths) == 2 else _status(rows["mean_member_accuracy"])
    if line.train == WORKS:
        line.reload = _status(rows["mean_member_accuracy"])
        line.interpolate = _status(rows["joint_connectivity"])
        if line.reload == WORKS:
            line.reload = _outcome(lambda: _reload(line.model, size, paths[0]))


def _write_plugin(folder: Path) -> None:
    (folder / "noise.py").write_text(PLUGIN)
    facts = folder / "noise-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: noise\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[harness]\nnoise = noise\n")


def _harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    found = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": found}, capture_output=True, text=True, check=False
    )


def _reload(model: str, size: int, path: Path) -> None:
    """Load a stored member into two fresh networks; raise if their outputs differ."""
    import torch
    from safetensors.torch import load_file

    from harness.networks.flat_network import FlatNetwork

    state = load_file(path)
    outputs = []
    for stream in (1, 2):
        network = FlatNetwork(_build(model, size, stream))
        network.load(state)
        with torch.no_grad():
            outputs.append(network.module.eval()(torch.linspace(-1, 1, 2 * 3 * size * size).view(2, 3, size, size)))
    if not torch.equal(*outputs):
        raise ValueError(f"two networks with the stored weights differ by {(outputs[0] - outputs[1]).abs().max():.3g}")


def _status(row: dict[str, str]) -> str:
    return WORKS if row["status"] == "done" else row["message"]


def _outcome(do: Callable[[], object]) -> str:
    """Return `yes`, or what was raised, on one line."""
    try:
        do()
    except Exception as error:  # a model may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return WORKS


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


# All models


def run(names: Iterable[str], table: Path, timeout: float, memory: float) -> None:
    """Try the models that the table lacks, one after another, and add a line for each as it comes."""
    done = set()
    if table.is_file():
        with table.open(newline="") as file:
            done = {row["model"] for row in csv.DictReader(file)}
    else:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(",".join(COLUMNS) + "\n")
    for row in chosen(names):
        if row["model"] not in done:
            line = try_apart(row, timeout, memory)
            with table.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(asdict(line))
            stages = ", ".join(f"{name} {getattr(line, name)[:60] or '-'}" for name in COLUMNS[4:9])
            print(f"{line.model}: {stages}; {line.seconds} s", flush=True)


def try_apart(row: dict[str, str], timeout: float, memory: float) -> Line:
    """Try a model in a process of its own, which may not take longer (seconds) or more memory (GiB)."""
    line = Line(row["module"], row["model"], int(row["parameters"]))
    limit = int(memory * 2**30)
    command = [sys.executable, __file__, "try", line.model]
    began = time.monotonic()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    ) as process:
        try:
            said, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the harness that it started, too
            process.communicate()
            line.build = f"not done after {timeout:g} s"
        else:
            if process.returncode == 0:
                line = Line(**json.loads(said.splitlines()[-1]))
            else:
                line.build = _last_line(errors) or f"ended with {process.returncode}"
    line.seconds = round(time.monotonic() - began, 1)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "run", "try"])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--timeout", type=float, default=600, help="seconds for each model")
    parser.add_argument("--memory", type=float, default=8, help="GiB for each process")
    given = parser.parse_args()
    if given.what == "choose":
        with MODELS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["module", "model", "parameters"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(choose())
    elif given.what == "run":
        run(given.models, given.table, given.timeout, given.memory)
    else:
        [row] = chosen(given.models)
        print(json.dumps(asdict(try_model(Line(row["module"], row["model"], int(row["parameters"]))))))


if __name__ == "__main__":
    main()
