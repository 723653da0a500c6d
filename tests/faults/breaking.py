"""A plugin whose metrics break the device or need all its memory, and an engine with worker processes on several devices.

`install` copies it into a folder on PYTHONPATH, with its own distribution. The devices are `cpu` and `cpu:0`, two names
of one device; the metrics raise the errors of a CUDA device.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pydantic
import torch

import harness
from harness import EvaluatedEnsemble, MetricValue, hookimpl
from harness.api import options
from harness.api.engine import EngineContext
from harness.execution.engines.interface import PoolEngine, PoolPolicy, WorkerPool
from harness.execution.engines.worker_process import ProcessLauncher

ILLEGAL_ACCESS = (
    "CUDA error: an illegal memory access was encountered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect."
)
ECC = "CUDA error: uncorrectable ECC error encountered"
ASSERTION = "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."


def install(folder: Path) -> dict[str, str]:
    """Install a distribution of this file into a folder; return the environment variables with which it is found."""
    (folder / "breaking.py").write_bytes(Path(__file__).read_bytes())
    info = folder / "breaking-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nbreaking = breaking\n")
    (folder / "scratch").mkdir()
    path = os.environ.get("PYTHONPATH")
    path = str(folder) if path is None else f"{folder}{os.pathsep}{path}"
    return {"PYTHONPATH": path, "BREAKING_SCRATCH": str(folder / "scratch")}


def breaks_once(name: str) -> None:
    """Raise an error that breaks the device, in the first call with this name in any process."""
    try:
        (Path(os.environ["BREAKING_SCRATCH"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return
    raise RuntimeError(ILLEGAL_ACCESS)


def breaks_always(name: str) -> None:
    """Raise an error that breaks the device."""
    raise RuntimeError(ILLEGAL_ACCESS)


def asserts(name: str) -> None:
    """Raise the error of a failed assertion in a kernel."""
    raise RuntimeError(ASSERTION)


def breaks_first_device(name: str) -> None:
    """Raise the error of damaged memory in a worker on the device `cpu:0`."""
    if sys.argv[sys.argv.index("--device") + 1] == "cpu:0":
        raise RuntimeError(ECC)


def needs_whole_device(name: str) -> None:
    """Raise the error of a full device while there is another worker process of this run."""
    command = ["pgrep", "-P", str(os.getppid()), "-f", "harness worker"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if len(listed.stdout.split()) > 1:
        needs_more_than_the_device(name)


def needs_more_than_the_device(name: str) -> None:
    """Raise the error of a full device."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def metric(name: str, do: Callable[[str], None]) -> type[harness.Metric]:
    """Return a metric class that calls a function with its name, and measures the number of members."""

    def measure(self: harness.Metric, ensemble: EvaluatedEnsemble) -> list[MetricValue]:
        do(name)
        return [MetricValue(name, float(ensemble.size))]

    return type(name, (harness.Metric,), {"name": name, "measure": measure, "__module__": __name__})


METRICS = {
    "once": breaks_once,
    "always": breaks_always,
    "also": breaks_always,
    "asserts": asserts,
    "asserts_too": asserts,
    "first": breaks_first_device,
    "second": breaks_first_device,
    "large": needs_whole_device,
    "too_large": needs_more_than_the_device,
}


class ProcessesEngine(PoolEngine):
    """Worker processes on the given devices, also if there is one."""

    name, version = "pool", 1

    class Options(options.Options):
        """Options of this engine."""

        devices: str = pydantic.Field("cpu", description="devices of the workers, with commas between them")

    def start(self, context: EngineContext) -> WorkerPool:
        devices = self.options.devices.split(",")
        return WorkerPool(context, ProcessLauncher(context, devices), PoolPolicy(len(devices), whole_groups=False))


@hookimpl
def register_metrics(register: Callable[[type], None]) -> None:
    for name, do in METRICS.items():
        register(metric(name, do))


@hookimpl
def register_engines(register: Callable[[type], None]) -> None:
    register(ProcessesEngine)
