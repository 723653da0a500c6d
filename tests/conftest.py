"""Fixtures that plan and run benchmarks of toy plugins."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; more threads only slow toys down

import itertools
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from harness.api.engine import Engine
from harness.benchmark import Benchmark, load_benchmark
from harness.execution.annotator import EventAnnotator
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.run_plan import RunPlan
from harness.execution.run_state import RunState
from harness.execution.runner import Runner
from harness.execution.siblings import SiblingPolicy
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.event_log import EventLog
from harness.telemetry.events import Event, TaskEnded, TrainingStarted

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background; the commands under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

RECIPE = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 0.1,
    "augmentation": {"crop_padding": 0, "horizontal_flip": False, "brightness": 0.1, "contrast": 0.0, "saturation": 0.0},
}


def toy_file(folder: Path, **changes: Any) -> Path:
    """Write a benchmark file of toys, with changes to its top-level fields, and return its path."""
    content: dict[str, Any] = {
        "name": "toy",
        "seeds": [0],
        "members": 3,
        "datasets": ["blobs"],
        "architectures": ["perceptron"],
        "methods": ["deep", {"constrained": {"fork_epoch": 1}}],
        "metrics": ["ensemble_accuracy", "joint_connectivity"],
        "recipe": RECIPE,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path


@pytest.fixture
def benchmark_of(tmp_path: Path) -> Callable[..., Benchmark]:
    """Return a function that loads a benchmark of toys, with changes to its top-level fields."""

    def load(catalogue: Catalogue | None = None, **changes: Any) -> Benchmark:
        return load_benchmark(toy_file(tmp_path, **changes), catalogue or toys.catalogue())

    return load


@pytest.fixture
def graph_of(benchmark_of: Callable[..., Benchmark]) -> Callable[..., Graph]:
    """Return a function that plans a benchmark of toys, with changes to its top-level fields."""

    def plan_toys(catalogue: Catalogue | None = None, **changes: Any) -> Graph:
        return plan(benchmark_of(catalogue, **changes))

    return plan_toys


def stop_after(count: int) -> Callable[[], bool]:
    """Return a function to ask whether a run must stop: True from call number `count` on, counted from 0."""
    calls = itertools.count()
    return lambda: next(calls) >= count


class Lab:
    """Runs graphs of toys on one store and records the events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.out.mkdir()
        self.store = Store(folder / "store")
        self.events: list[Event] = []

    def run(
        self,
        graph: Graph,
        catalogue: Catalogue | None = None,
        stopping: Callable[[], bool] = lambda: False,
        store: Store | None = None,
        observe: Callable[[Event], None] = lambda event: None,
        device: str = "cpu",
        siblings: SiblingPolicy | None = None,
        engine: Engine | None = None,
    ) -> RunState:
        """Run a graph in this process, on the lab's own store unless another is given."""
        plan_of_run = RunPlan(graph)
        observers = {"test": self.events.append, "more": observe}
        log = EventLog(self.out / "events.jsonl", observers, EventAnnotator(plan_of_run, self.out))
        store = store or self.store
        context = RunContext(
            catalogue or toys.catalogue(),
            store.root,
            self.folder,
            device,
            log,
            stopping,
            siblings=siblings or SiblingPolicy(),
        )
        try:
            engine = engine or LocalEngine(LocalEngine.Options(workers=1))
            return Runner(plan_of_run, store, engine, context, self.out).run()
        finally:
            log.close()

    def run_with_another(self, graph: Graph, siblings: SiblingPolicy | None = None) -> Lab:
        """Run a graph in two threads at once on this lab's store; return the lab of the second run."""
        (self.folder / "second").mkdir()
        other = Lab(self.folder / "second")
        thread = threading.Thread(target=lambda: other.run(graph, store=Store(self.store.root), siblings=siblings))
        thread.start()
        self.run(graph, siblings=siblings)
        thread.join()
        return other

    def trained(self) -> list[str]:
        """Return the keys of the training tasks that ended as done, in order."""
        ended = [event for event in self.events if isinstance(event, TaskEnded)]
        return [event.task for event in ended if event.kind == "train" and event.status == "done"]

    def trainings_started(self) -> list[str]:
        """Return the keys of the training tasks that were started or resumed, in order."""
        return [event.task for event in self.events if isinstance(event, TrainingStarted)]

    def messages(self, kind: type[Event]) -> list[str]:
        """Return the messages of all events of a class, in order."""
        return [event.message for event in self.events if isinstance(event, kind)]  # type: ignore[attr-defined]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty store and an empty folder for rows."""
    return Lab(tmp_path)
