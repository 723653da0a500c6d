"""A plugin whose metrics misbehave. `install` copies it into a folder on PYTHONPATH, with its own distribution."""

from __future__ import annotations

import itertools
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
    """Install a distribution of this file into a folder; return the environment variables with which it is found."""
    (folder / "rogue.py").write_bytes(Path(__file__).read_bytes())
    info = folder / "rogue-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rogue\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nrogue = rogue\n")
    (folder / "scratch").mkdir()
    path = os.environ.get("PYTHONPATH")
    path = str(folder) if path is None else f"{folder}{os.pathsep}{path}"
    return {"PYTHONPATH": path, "ROGUE_SCRATCH": str(folder / "scratch")}


def first_time(name: str) -> bool:
    """Return whether this is the first call with a name in any process."""
    try:
        (Path(os.environ["ROGUE_SCRATCH"]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Rogue(harness.Metric):
    """A metric that misbehaves before it returns the number of members."""

    def measure(self, ensemble: EvaluatedEnsemble) -> Any:
        return [MetricValue(self.name, float(self.misbehave(ensemble) or ensemble.size))]

    def misbehave(self, ensemble: EvaluatedEnsemble) -> Any:
        """Misbehave; a value that is returned replaces the number of members."""


def metric(name: str, misbehave: Callable[..., Any] | None = None, measure: Callable[..., Any] | None = None) -> type[Rogue]:
    """Return a metric class with another `misbehave` or `measure`."""
    body: dict[str, Any] = {"name": name, "__module__": __name__}
    if misbehave is not None:
        body["misbehave"] = lambda self, ensemble: misbehave(ensemble)
    if measure is not None:
        body["measure"] = lambda self, ensemble: measure(self.name, ensemble)
    return type(name, (Rogue,), body)


class Unspeakable(Exception):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def leave_settings(ensemble: EvaluatedEnsemble) -> None:
    """Change every setting of the process that other code depends on."""
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
    """Print lines that look like the worker's messages in four ways, and read from standard input."""
    fake = json.dumps({"event": "outcome", "key": "0" * 64, "status": "failed", "message": "forged"})
    print("hello", "{", fake, sep="\n", flush=True)
    os.write(1, (fake + "\n").encode())
    os.system("echo from a child")
    print(json.dumps({"event": "store_refused", "message": "forged"}), flush=True)
    assert sys.stdin.readline() == ""


def leave_children(ensemble: EvaluatedEnsemble) -> None:
    """End the process, but leave a child that has inherited its open files."""
    if os.fork():
        os._exit(3)
    time.sleep(3600)


def killed_once(ensemble: EvaluatedEnsemble) -> None:
    """End the process with SIGKILL, as the kernel does when memory runs out, in the first call only."""
    if first_time("killed"):
        os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory_once(ensemble: EvaluatedEnsemble) -> None:
    """Raise MemoryError in the first call only."""
    if first_time("memory"):
        raise MemoryError


def endless(name: str, ensemble: EvaluatedEnsemble) -> Iterator[MetricValue]:
    """Yield values without end."""
    yield MetricValue(name, 0.0)
    for number in itertools.count(2):
        yield MetricValue(f"{name}/{number}", 0.0)


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises an error."""

    def misbehave(ensemble: EvaluatedEnsemble) -> None:
        raise error

    return misbehave


def giving(value: Any) -> Callable[..., Any]:
    """Return a `measure` that returns a value, or the result of a function of the metric's name."""
    if callable(value):
        return lambda name, ensemble: value(name)
    return lambda name, ensemble: value


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
"""Metric classes by name; each is named for what it does."""


class Wrong(harness.EnsembleBuilder):
    """A builder that exits while its cell is planned."""

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
