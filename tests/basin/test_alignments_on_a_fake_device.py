"""Alignments that read training images, and averages, on a device that refuses what a GPU would, against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import RECIPE
from execution.tasks_on_devices import NETWORK, do_tasks, stored_tensors
from fake_device import FakeDevice
from harness.plan.graph import Graph
from siblings import equal

BY = [{"sinkhorn": {"loss": "midpoint", "epochs": 2}}, {"sinkhorn": {"loss": "random", "epochs": 1, "soft": True}}, "ot"]


def test_tasks(graph_of: Callable[..., Graph], tmp_path: Path) -> None:
    """All weights are equal to the bit."""
    recipe = {**RECIPE, "epochs": 1, "precision": "fp32"}
    graph = graph_of(
        members=2,
        methods=[{"fused": {"grid": {"by": BY}}}],
        metrics=["ensemble_accuracy"],
        architectures=[NETWORK],
        recipe=recipe,
    )
    assert not [cell.problem for cell in graph.cells if cell.problem]
    tasks = [task for task in graph.tasks.values() if task.kind in ("train", "derive")]
    assert len(tasks) == 2 + 3 + 3
    found, expected = tmp_path / "found", tmp_path / "expected"
    with FakeDevice():
        do_tasks(tasks, found, "ipu")
    do_tasks(tasks, expected, "cpu")
    for task in tasks:
        assert equal(stored_tensors(task, found), stored_tensors(task, expected))
