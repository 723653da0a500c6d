"""Measure what grows with a benchmark: planning time, the harness's overhead per task, the memory of a long run.

docs/performance.md has the results.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import toys
from harness.benchmark import Benchmark, load_benchmark
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.run_plan import RunPlan
from harness.execution.runner import Runner
from harness.plan.planner import plan
from harness.store import Store
from harness.telemetry.events import Event, TaskEnded

NO_AUGMENTATION = {"crop_padding": 0, "horizontal_flip": False, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
ONE_STEP = {"epochs": 1, "batch_size": 96, "augmentation": NO_AUGMENTATION}


def benchmark_file(folder: Path, seeds: int, **changes: Any) -> Benchmark:
    """Return a benchmark of the toy plugins, with changes to its top-level keys."""
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


def run(benchmark: Benchmark, folder: Path, emit: Callable[[Event], None] = lambda event: None) -> int:
    """Run a benchmark in this process; return how many tasks were done."""
    folder.mkdir(exist_ok=True)
    store = Store(folder / "store")
    context = RunContext(toys.catalogue(), store.root, folder, "cpu", emit, lambda: False)
    engine = LocalEngine(LocalEngine.Options(workers=1))
    return Runner(RunPlan(plan(benchmark)), store, engine, context, folder).run().done


def resident_megabytes() -> float:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_time_of_planning_is_linear(benchmark, tmp_path):
    """Five methods and 2,000 seeds (10,000 cells, 70,000 tasks) take less than three times as long as half as many seeds."""
    methods = ["deep", "constrained", "swe", "permuted", "distilled"]
    benchmarks = {}
    for seeds in (1000, 2000):
        benchmarks[seeds] = benchmark_file(tmp_path, seeds, methods=methods, recipe={**ONE_STEP, "epochs": 60})
    seconds: dict[int, list[float]] = {1000: [], 2000: []}
    for _ in range(3):
        for seeds, loaded in benchmarks.items():
            gc.collect()
            began = time.process_time()
            graph = plan(loaded)
            seconds[seeds].append(time.process_time() - began)
            assert len(graph.cells) == 5 * seeds
            del graph
    benchmark.pedantic(plan, args=(benchmarks[2000],), rounds=1)
    benchmark.extra_info.update(cells=10_000, seconds=min(seconds[2000]), seconds_for_half=min(seconds[1000]))
    assert min(seconds[2000]) < 3 * min(seconds[1000])


def test_overhead_of_a_task_does_not_grow(benchmark, tmp_path):
    """With four times as many seeds, a task takes less than 1.5 times the processor time.

    A task is one training step, one prediction or one measurement. Most of its time is the harness's overhead: leases, digests,
    fsync, events, rows.
    """
    run(benchmark_file(tmp_path, 2), tmp_path / "warm-up")
    few = benchmark_file(tmp_path, 5)
    began_processor = time.process_time()
    milliseconds_of_few = 1000 / run(few, tmp_path / "few")
    milliseconds_of_few *= time.process_time() - began_processor
    loaded = benchmark_file(tmp_path, 20)
    done: list[int] = []
    began_wall = time.perf_counter()
    began_processor = time.process_time()
    benchmark.pedantic(lambda: done.append(run(loaded, tmp_path / "second")), rounds=1)
    wall_seconds = time.perf_counter() - began_wall
    processor_seconds = time.process_time() - began_processor
    benchmark.extra_info.update(
        tasks=done[0],
        milliseconds_a_task=1000 * wall_seconds / done[0],
        processor_milliseconds_a_task=1000 * processor_seconds / done[0],
        processor_milliseconds_a_task_of_few=milliseconds_of_few,
    )
    assert done[0] == 20 * 3 * 2 + 20
    assert 1000 * processor_seconds / done[0] < 1.5 * milliseconds_of_few


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
def test_memory_does_not_grow_with_the_members_done(benchmark, tmp_path):
    """Finished members (2 MB each, 4 MB with momentum, and logits) are freed: 60 more members take less than 40 MB."""
    wide = [{"perceptron": {"width": 25_000}}]
    loaded = benchmark_file(tmp_path, 30, architectures=wide)
    megabytes: list[float] = []

    def observe(event: Event) -> None:
        if isinstance(event, TaskEnded) and event.kind == "train":
            megabytes.append(resident_megabytes())

    benchmark.pedantic(run, args=(loaded, tmp_path / "run", observe), rounds=1)
    early, late = max(megabytes[20:40]), max(megabytes[70:])
    benchmark.extra_info.update(members=len(megabytes), megabytes_after_a_third=early, megabytes_at_the_end=late)
    assert len(megabytes) == 90
    assert late - early < 40, f"{late - early:.0f} MB more after 60 more members"
