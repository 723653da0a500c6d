"""Straight-through matching on a device that refuses what a GPU would, against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from execution.tasks_on_devices import do_tasks, stored_tensors
from fake_device import FakeDevice
from harness.plan.graph import Graph
from siblings import equal

COPIES_TO_HOST = {
    "host_copy.to_host",
    "checking.permutation_symmetry",
    "checking.function_difference",
    "mixture_network.MixtureNetwork.gradient",
}
"""The functions that copy tensors to the host."""


@pytest.mark.parametrize("by", [{"ste": {"epochs": 2}}, {"ste_mm": {"epochs": 2, "learning_rate": 0.1}}], ids=["ste", "ste_mm"])
def test_derivations(graph_of: Callable[..., Graph], tmp_path: Path, by: dict[str, dict[str, float]]) -> None:
    """The weights are equal to the bit, and the functions that copy to the host are known."""
    graph = graph_of(
        methods=[{"aligned": {"by": by}}],
        architectures=[{"perceptron": {"batchnorm": True}}],
        metrics=["ensemble_accuracy"],
        members=3,
    )
    tasks = [task for task in graph.tasks.values() if task.kind in ("train", "derive")]
    found, expected = tmp_path / "found", tmp_path / "expected"
    with FakeDevice() as device:
        do_tasks(tasks, found, "ipu")
    do_tasks(tasks, expected, "cpu")
    assert device.to_host == COPIES_TO_HOST
    for task in tasks:
        assert equal(stored_tensors(task, found), stored_tensors(task, expected))
