"""Measure an engine with real workers: tasks that do nothing, and a small benchmark beside the local engine.

    python benchmarks/perf/measure_engines.py noop --engine local --engine-option workers=2
    python benchmarks/perf/measure_engines.py noop --engine slurm --engine-option jobs=2 --tasks 1000
    python benchmarks/perf/measure_engines.py run --engine slurm --engine-option jobs=2 --rounds 2

Each prints a line of JSON. The folder of the workers' logs and of the store is temporary unless `--folder` names one, which a
cluster's nodes must see. docs/performance.md has the results.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness
from harness.api.engine import Engine
from harness.api.task import Task
from harness.cli.engine_options import parse_engine_options
from harness.execution.probes import probe_context, stored_probe
from harness.execution.queue import TaskQueue
from harness.registry.catalogue import load_catalogue
from harness.runs.engine import make_engine
from harness.store import Store
from harness.telemetry.events import Event

SMALL: dict[str, Any] = {
    "name": "engines",
    "seeds": [0],
    "members": 2,
    "datasets": ["digits"],
    "architectures": [{"resnet20": {"width": 0.25}}],
    "methods": ["deep", {"constrained": {"fork_epoch": 1}}],
    "metrics": ["ensemble_accuracy"],
    "recipe": {"epochs": 2, "batch_size": 64, "augmentation": {"crop_padding": 1}},
}
"""11 tasks on digits, 5 epochs of a small ResNet."""


@dataclass(frozen=True)
class NoOps:
    """Tasks that do nothing. `first` is the time from opening the engine to the first outcome: workers start.

    `milliseconds` is the wall time per task after it, `processor_milliseconds` the processor time of this process per task.
    """

    engine: str
    options: dict[str, Any]
    tasks: int
    first: float
    milliseconds: float
    processor_milliseconds: float
    close: float
    load: float


def measure_noops(name: str, options: Mapping[str, Any], count: int, folder: Path) -> NoOps:
    """Do probes through an engine, handed out as `Runner` does."""
    catalogue = load_catalogue()
    store = Store(folder / "store")
    store.prepare()
    tasks: dict[str, Task] = {}
    for _ in range(count):
        task = stored_probe(store)
        tasks[task.key] = task
    engine = make_engine(catalogue, name, options, {})
    load = os.getloadavg()[0]
    events: list[Event] = []
    began = time.monotonic()
    engine.open(probe_context(catalogue, folder, events.append, lambda: False))
    try:
        processor, ends = _do(engine, tasks)
    finally:
        closing = time.monotonic()
        engine.close()
    return NoOps(
        engine=name,
        options=dict(options),
        tasks=count,
        first=ends[0] - began,
        milliseconds=1000 * (ends[-1] - ends[0]) / max(1, count - 1),
        processor_milliseconds=1000 * processor / count,
        close=time.monotonic() - closing,
        load=load,
    )


def _do(engine: Engine, tasks: Mapping[str, Task]) -> tuple[float, list[float]]:
    """Do all tasks; return the processor time of this process after the first outcome, and the times of the outcomes."""
    queue = TaskQueue(tasks)
    ends: list[float] = []
    running = 0
    processor = 0.0
    while running or queue:
        while queue and engine.has_capacity:
            group = queue.take(engine.group_size)
            engine.submit(group)
            running += len(group)
        for outcome in engine.wait():
            assert outcome.status == "done", outcome.message
            ends.append(time.monotonic())
            processor = processor or time.process_time()
            queue.finish(outcome.key)
            running -= 1
    return time.process_time() - processor, ends


@dataclass(frozen=True)
class Runs:
    """Runs of a small benchmark, in turn with two workers of the local engine: seconds, and the median of the ratios."""

    engine: str
    options: dict[str, Any]
    seconds: list[float]
    seconds_local: list[float]
    ratio: float
    load: float


def measure_runs(name: str, options: Mapping[str, Any], rounds: int, folder: Path) -> Runs:
    """Run the benchmark from an empty store on both engines. Rows and weights must be equal."""
    seconds: list[float] = []
    seconds_local: list[float] = []
    load = os.getloadavg()[0]
    for number in range(rounds):
        ours, results = _run(folder / f"{name}-{number}", name, options)
        local, expected = _run(folder / f"local-{number}", "local", {"workers": 2})
        assert results == expected, "rows or weights differ"
        seconds.append(ours)
        seconds_local.append(local)
    ratios = [one / other for one, other in zip(seconds, seconds_local, strict=True)]
    return Runs(name, dict(options), seconds, seconds_local, statistics.median(ratios), load)


def _run(folder: Path, name: str, options: Mapping[str, Any]) -> tuple[float, dict[str, str]]:
    """Return the wall time of a run, and the digests of its rows and of all parts of stored objects."""
    began = time.monotonic()
    harness.run(
        SMALL,
        out=folder / "out",
        store=folder / "store",
        set={"recipe.precision": "fp32"},
        engine=name,
        engine_options=options,
        progress=False,
        device="cpu",
    )
    seconds = time.monotonic() - began
    digests = {}
    for path in [folder / "out" / "results.csv", *sorted((folder / "store" / "objects").rglob("*.safetensors"))]:
        digests[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return seconds, digests


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="measure-engines-") as folder:
        yield Path(folder)


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description="Measure an engine with real workers.")
    parser.add_argument("what", choices=["noop", "run"])
    parser.add_argument("--engine", default="local", help="default: local")
    parser.add_argument("--engine-option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tasks", type=int, default=1000, help="that do nothing; default: 1000")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each engine; default: 1")
    parser.add_argument("--folder", type=Path, help="a new folder that all workers see; default: a temporary one")
    arguments = parser.parse_args()
    options = parse_engine_options(arguments.engine_option)
    with _folder(arguments.folder) as folder:
        result: NoOps | Runs
        if arguments.what == "noop":
            result = measure_noops(arguments.engine, options, arguments.tasks, folder)
        else:
            result = measure_runs(arguments.engine, options, arguments.rounds, folder)
    json.dump(asdict(result), sys.stdout)
    print()


if __name__ == "__main__":
    main()
