"""The precision of training: named in the file, or the device's, and always in the key."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from harness.benchmark import Benchmark
from harness.execution.device import precision_on
from harness.plan.planner import plan


def test_precision_that_is_left_open_is_the_devices(benchmark_of: Callable[..., Benchmark]) -> None:
    """No key ever holds `auto`; what a file says stands, also where another pair leaves it open."""
    benchmark = benchmark_of(
        architectures=["perceptron", {"perceptron": {"width": 9, "label": "wide"}}],
        settings=[{"architecture": "wide", "recipe": {"precision": "fp32"}}],
    )
    assert benchmark.leaves_precision_open
    graphs = {precision: plan(benchmark, precision) for precision in ("fp32", "bf16")}
    recipes = {p: [pair["recipe"]["precision"] for pair in g.benchmark.resolved()["pairs"]] for p, g in graphs.items()}
    assert recipes == {"fp32": ["fp32", "fp32"], "bf16": ["bf16", "fp32"]}
    assert not any(graph.benchmark.leaves_precision_open for graph in graphs.values())
    keys = {p: [cell.key for cell in graph.cells] for p, graph in graphs.items()}
    assert [a == b for a, b in zip(*keys.values(), strict=True)] == [False, False, True, True]
    assert plan(benchmark).tasks.keys() == graphs["fp32"].tasks.keys()
    assert '"auto"' not in json.dumps([task.spec.to_json() for task in plan(benchmark).tasks.values()])


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_precision_of_devices(capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 where a GPU computes in it, fp32 on every CPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision_on("cuda:1") == precision
    assert precision_on("cpu") == "fp32"
