"""The precision of training: that of the benchmark file, or else the device's; keys always have it."""

from __future__ import annotations

import json
from collections.abc import Callable

from harness.benchmark import Benchmark
from harness.plan.planner import plan


def test_automatic_precision_is_the_devices(benchmark_of: Callable[..., Benchmark]) -> None:
    """`auto` is in no key. An explicit precision is kept, also if another pair has `auto`."""
    benchmark = benchmark_of(
        architectures=["perceptron", {"perceptron": {"width": 9, "label": "wide"}}],
        settings=[{"architecture": "wide", "recipe": {"precision": "fp32"}}],
    )
    assert benchmark.leaves_precision_open
    graphs = {precision: plan(benchmark, precision) for precision in ("fp32", "bf16")}
    precisions = {}
    for precision, graph in graphs.items():
        pairs = graph.benchmark.resolved()["pairs"]
        precisions[precision] = [pair["recipe"]["precision"] for pair in pairs]
    assert precisions == {"fp32": ["fp32", "fp32"], "bf16": ["bf16", "fp32"]}
    assert not any(graph.benchmark.leaves_precision_open for graph in graphs.values())
    pairs_of_cells = zip(graphs["fp32"].cells, graphs["bf16"].cells, strict=True)
    assert [one.key == other.key for one, other in pairs_of_cells] == [False, False, True, True]
    assert plan(benchmark).tasks.keys() == graphs["fp32"].tasks.keys()
    assert '"auto"' not in json.dumps([task.spec.to_json() for task in plan(benchmark).tasks.values()])
