"""Try one model of every module of timm through the harness, and keep what works in a table.

    python tests/vision/timm_sweep.py choose             # timm_models.csv: the smallest model of each module
    python tests/vision/timm_sweep.py run [MODEL …]      # a line of the table for each model; run again, it goes on
    python tests/vision/timm_sweep.py try MODEL          # a line as JSON after each stage

Each model is tried in a process of its own, with a time limit, a memory limit and one thread: built for the smallest images
that it takes, trained for a step by `harness run`, stored, loaded into fresh networks, interpolated, and traced for its
symmetry. `timm_page.py` writes the table as a page.
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
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
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
    """Four random images for a single step of training, and as many to predict."""

    name, version = "noise", 1
    classes, train_size, fingerprint = 10, 4, "seed 0"
    normalisation = normalization = ((0.5, 0.5, 0.5), (0.3, 0.3, 0.3))

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
    timm: str = ""
    torch: str = ""
    cpu: str = ""


STAGES = ("build", "train", "reload", "interpolate", "symmetry")
COLUMNS = [field.name for field in fields(Line)]


# Which models


def choose() -> Iterator[dict[str, Any]]:
    """Yield module, name and parameters of the smallest classifier of each module of timm."""
    import timm

    for module in sorted(timm.list_modules()):
        sizes = {name: size for name in timm.list_models(module=module) if (size := _parameters(name))}
        if sizes:
            smallest = min(sizes, key=lambda name: (sizes[name], name))
            yield {"module": module, "model": smallest, "parameters": sizes[smallest]}


def _parameters(name: str) -> int:
    """Return the number of a classifier's parameters; 0 for an encoder, and for what cannot be made without memory."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=CLASSES)
    except Exception:  # some draw numbers from tensors as they are made
        return 0
    return sum(p.numel() for p in model.parameters()) if model.num_classes == CLASSES else 0


def chosen(names: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the chosen models: all, or those named."""
    with MODELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = set(names)
    return [row for row in rows if not wanted or row["model"] in wanted]


# One model


def try_model(line: Line) -> Iterator[Line]:
    """Fill in a line, and yield it after each stage; what fails leaves the rest to be tried where that is possible."""
    size, line.build = _image_size(line.model)
    line.image_size = str(size or "")
    yield line
    if not size:
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(line, size, Path(folder))
    yield line
    line.symmetry = _outcome(lambda: _trace(line.model, size))
    yield line


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
    from harness.catalogue import load_catalogue

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


def run(names: Iterable[str], table: Path, workers: int, timeout: float, memory: float) -> None:
    """Try the models that the table lacks, some at a time, and add a line for each as it comes."""
    lines = _lines(table)
    missing = [row for row in chosen(names) if row["model"] not in lines]
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(try_apart, row, timeout, memory) for row in missing]):
            line = future.result()
            lines[line.model] = {name: str(value) for name, value in asdict(line).items()}
            _write(table, lines)
            stages = ", ".join(f"{name} {getattr(line, name)[:60] or '-'}" for name in STAGES)
            print(f"{line.model}: {stages}; {line.seconds} s", flush=True)


def _lines(table: Path) -> dict[str, dict[str, str]]:
    if not table.is_file():
        return {}
    with table.open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def _write(table: Path, lines: dict[str, dict[str, str]]) -> None:
    """Write all lines, ordered by module, in the place of the table."""
    table.parent.mkdir(parents=True, exist_ok=True)
    beside = table.with_suffix(".new")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(lines.values(), key=lambda line: line["module"]))
    beside.replace(table)


def try_apart(row: dict[str, str], timeout: float, memory: float) -> Line:
    """Try a model in a process of its own, which may not take longer (seconds) or more memory (GiB)."""
    line = Line(row["module"], row["model"], int(row["parameters"]))
    command = [sys.executable, __file__, "try", line.model, "--memory", str(memory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    began = time.monotonic()
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=timeout)
            problem = (_last_line(errors) or f"ended with {process.returncode}") if process.returncode else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # the harness that it started, too
            said, _ = process.communicate()
            problem = f"not done after {timeout:g} s"
    if said:
        line = Line(**json.loads(said.splitlines()[-1]))
    if problem:
        unfinished = [stage for stage in ("build", "train", "symmetry") if not getattr(line, stage)]
        setattr(line, unfinished[0], problem)
    line.seconds = round(time.monotonic() - began, 1)
    line.timm, line.torch, line.cpu = version("timm"), version("torch"), _cpu()
    return line


def _cpu() -> str:
    """Return the processor's name as Linux tells it."""
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["choose", "run", "try"])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--workers", type=int, default=1, help="models at a time")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each model")
    parser.add_argument("--memory", type=float, default=8, help="GiB for each process")
    given = parser.parse_args()
    if given.what == "choose":
        with MODELS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["module", "model", "parameters"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(choose())
    elif given.what == "run":
        run(given.models, given.table, given.workers, given.timeout, given.memory)
    else:
        limit = int(given.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        [row] = chosen(given.models)
        for line in try_model(Line(row["module"], row["model"], int(row["parameters"]))):
            print(json.dumps(asdict(line)), flush=True)


if __name__ == "__main__":
    main()
