"""What grows with a benchmark: the time of planning, the harness's own time for a task, the memory of a long run.

docs/performance.md has what was measured.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from harness.benchmark import Benchmark, load_benchmark
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.runner import Runner
from harness.plan.planner import plan
from harness.store import Store
from harness.telemetry.events import Event, TaskEnded

STILL = {"crop_padding": 0, "horizontal_flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
ONE_STEP = {"epochs": 1, "batch_size": 96, "augmentation": STILL}


def benchmark_file(folder: Path, seeds: int, **changes: Any) -> Benchmark:
    """Return a benchmark of toys."""
    content: dict[str, Any] = {
        "name": "growth",
        "seeds": list(range(seeds)),
        "members": 3,
        "datasets": ["blobs"],
        "architectures": ["perceptron"],
        "methods": ["deep"],
        "metrics": ["ensemble_accuracy"],
        "recipe": ONE_STEP,
    }
    path = folder / "growth.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return load_benchmark(path, toys.catalogue())


def run(benchmark: Benchmark, folder: Path, note: Any = lambda event: None) -> int:
    """Run a benchmark in this process; return how many tasks were done."""
    folder.mkdir(exist_ok=True)
    store = Store(folder / "store")
    session = RunContext(toys.catalogue(), store.root, folder, "cpu", note, lambda: False)
    return Runner(plan(benchmark), store, LocalEngine(LocalEngine.Options(workers=1)), session, folder).run().done


def resident() -> float:
    """Return the memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_ten_thousand_cells_are_planned_in_five_seconds(benchmark, tmp_path):
    """70,000 tasks of five methods and 2,000 seeds; half of them take about half the time."""
    methods = ["deep", "constrained", "swe", "permuted", "distilled"]
    whole = benchmark_file(tmp_path, 2000, methods=methods, recipe={**ONE_STEP, "epochs": 60})
    half = benchmark_file(tmp_path, 1000, methods=methods, recipe={**ONE_STEP, "epochs": 60})
    seconds: dict[int, list[float]] = {1000: [], 2000: []}
    for _ in range(3):
        for count, asked in ((1000, half), (2000, whole)):
            gc.collect()
            began = time.process_time()
            graph = plan(asked)
            seconds[count].append(time.process_time() - began)
            assert len(graph.cells) == 5 * count
            del graph
    benchmark.pedantic(plan, args=(whole,), rounds=1)
    benchmark.extra_info.update(cells=10_000, seconds=min(seconds[2000]), seconds_for_half=min(seconds[1000]))
    assert min(seconds[2000]) < 5
    assert min(seconds[2000]) < 3 * min(seconds[1000])


def test_harness_takes_twenty_milliseconds_of_a_task(benchmark, tmp_path):
    """A training of one step, a prediction, a measurement: what each takes is leases, digests, fsync, events, rows."""
    run(benchmark_file(tmp_path, 2), tmp_path / "first")
    asked, done = benchmark_file(tmp_path, 20), []
    began, began_cpu = time.perf_counter(), time.process_time()
    benchmark.pedantic(lambda: done.append(run(asked, tmp_path / "second")), rounds=1)
    passed, worked = time.perf_counter() - began, time.process_time() - began_cpu
    benchmark.extra_info.update(
        tasks=done[0], milliseconds_a_task=1000 * passed / done[0], processor_milliseconds_a_task=1000 * worked / done[0]
    )
    assert done[0] == 20 * 3 * 2 + 20
    assert 1000 * worked / done[0] < 20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_members_done(benchmark, tmp_path):
    """Members of 2 MB each (4 MB with momentum, and logits) are let go: after 90 of them there is as much as after 30."""
    wide = [{"perceptron": {"width": 25_000}}]
    asked, after = benchmark_file(tmp_path, 30, architectures=wide), []

    def note(event: Event) -> None:
        if isinstance(event, TaskEnded) and event.kind == "train":
            after.append(resident())

    benchmark.pedantic(run, args=(asked, tmp_path / "run", note), rounds=1)
    early, late = max(after[20:40]), max(after[70:])
    benchmark.extra_info.update(members=len(after), megabytes_after_a_third=early, megabytes_at_the_end=late)
    assert len(after) == 90
    assert late - early < 40, f"{late - early:.0f} MB more after 60 more members"
