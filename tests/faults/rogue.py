"""A plugin that misbehaves in every way there is. It is installed for a test by `install`, into a folder on PYTHONPATH."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness import EvaluatedEnsemble, MetricValue, hookimpl


def install(folder: Path) -> dict[str, str]:
    """Make a distribution of this file in a folder; return the environment in which it is found."""
    (folder / "rogue.py").write_bytes(Path(__file__).read_bytes())
    info = folder / "rogue-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nrogue = rogue\n")
    (folder / "scratch").mkdir()
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "ROGUE_SCRATCH": str(folder / "scratch")}


def first_time(name: str) -> bool:
    """Say whether this is the first call with a name, of all processes."""
    try:
        (Path(os.environ["ROGUE_SCRATCH"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Rogue(harness.Metric):
    """A metric that does something else first."""

    def measure(self, ensemble: EvaluatedEnsemble) -> Any:
        return [MetricValue(self.name, float(self.misbehave(ensemble) or ensemble.size))]

    def misbehave(self, ensemble: EvaluatedEnsemble) -> Any:
        """Do it."""


def metric(name: str, misbehave: Callable[..., Any] | None = None, measure: Callable[..., Any] | None = None) -> type[Rogue]:
    """Return a class of a metric."""
    body: dict[str, Any] = {"name": name, "__module__": __name__}
    if misbehave is not None:
        body["misbehave"] = lambda self, ensemble: misbehave(ensemble)
    if measure is not None:
        body["measure"] = lambda self, ensemble: measure(self.name, ensemble)
    return type(name, (Rogue,), body)


class Unspeakable(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def leave_settings(ensemble: EvaluatedEnsemble) -> None:
    """Change everything that others could stumble over."""
    import torch

    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.enabled = False
    np.seterr(all="raise")
    sys.setrecursionlimit(500)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")


def print_protocol(ensemble: EvaluatedEnsemble) -> None:
    """Print what looks like the worker's own messages, by every way there is, and read what it is told."""
    fake = json.dumps({"event": "outcome", "key": "0" * 64, "status": "failed", "message": "forged"})
    print("hello", "{", fake, sep="\n", flush=True)
    os.write(1, (fake + "\n").encode())
    os.system("echo from a child")
    print(json.dumps({"event": "store_refused", "message": "forged"}), flush=True)
    assert sys.stdin.readline() == ""


def leave_children(ensemble: EvaluatedEnsemble) -> None:
    """End, and leave a child behind that holds all that the process held."""
    if os.fork():
        os._exit(3)
    time.sleep(3600)


def killed_once(ensemble: EvaluatedEnsemble) -> None:
    """End as the kernel's out-of-memory killer ends processes; the second time, do not."""
    if first_time("killed"):
        os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory_once(ensemble: EvaluatedEnsemble) -> None:
    """Run out of memory, the second time not."""
    if first_time("memory"):
        raise MemoryError


def endless(name: str, ensemble: EvaluatedEnsemble) -> Iterator[MetricValue]:
    """Yield without end."""
    i = 0
    while True:
        i += 1
        yield MetricValue(f"{name}/{i}" if i > 1 else name, 0.0)


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises."""

    def misbehave(ensemble: EvaluatedEnsemble) -> None:
        raise error

    return misbehave


def giving(value: Any) -> Callable[..., Any]:
    """Return a function that gives a value."""
    return lambda name, ensemble: value(name) if callable(value) else value


RAISING = {
    "raises": RuntimeError("not\ntoday " + "x" * 5000),
    "exits": SystemExit(7),
    "unspeakable": Unspeakable(),
    "recursion": RecursionError("too deep"),
    "canceled": GeneratorExit(),
}
GIVING: dict[str, Any] = {
    "nothing": None,
    "empty": [],
    "number": 3.0,
    "foreign": [object()],
    "misnamed": [MetricValue("ensemble_accuracy", 1.0)],
    "textual": lambda name: [MetricValue(name, "1")],  # type: ignore[arg-type]
    "sideways": lambda name: [MetricValue(name, 1.0, better="up")],  # type: ignore[arg-type]
    "unitless": lambda name: [MetricValue(name, 1.0, unit=None)],  # type: ignore[arg-type]
    "twice": lambda name: [MetricValue(name, 1.0), MetricValue(name, 2.0)],
    "usurper": lambda name: [MetricValue(name, 1.0), MetricValue("ensemble_accuracy", 2.0)],
}
DOING = {
    "prints": print_protocol,
    "settings": leave_settings,
    "killed_once": killed_once,
    "memory_once": out_of_memory_once,
    "memory_twice": raising(MemoryError("a lot")),
}
METRICS = {
    **{name: metric(name, raising(error)) for name, error in RAISING.items()},
    **{name: metric(name, measure=giving(value)) for name, value in GIVING.items()},
    **{name: metric(name, misbehave) for name, misbehave in DOING.items()},
    "endless": metric("endless", measure=endless),
    "scribbles": metric("scribbles", lambda ensemble: ensemble.logits.fill(0)),
    "vanishes": metric("vanishes", lambda ensemble: os._exit(3)),
    "orphans": metric("orphans", leave_children),
    "hangs": metric("hangs", lambda ensemble: time.sleep(3600)),
    "infinite": metric("infinite", measure=lambda name, ensemble: [MetricValue(name, float("inf"))]),
    "undefined": metric("undefined", measure=lambda name, ensemble: [MetricValue(name, float("nan"))]),
}
"""Metrics by name, each named for what it does."""


class Wrong(harness.EnsembleBuilder):
    """A builder that exits at planning."""

    name = "wrong"

    def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
        print("at planning", flush=True)
        os.chdir("/")
        raise SystemExit(3)


@hookimpl
def register_metrics(register: Callable[[type], None]) -> None:
    for cls in METRICS.values():
        register(cls)


@hookimpl
def register_ensemble_builders(register: Callable[[type], None]) -> None:
    register(Wrong)


@hookimpl
def observe_event(event: Any) -> None:
    raise SystemExit("an observer ends nothing")
