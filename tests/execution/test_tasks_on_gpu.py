"""All tasks of a benchmark on a CUDA device, against the CPU from the same trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from execution.tasks_on_devices import do_tasks, stored_tensors, stored_values, toy_graph
from harness.plan.graph import Graph
from siblings import equal

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
LAST_DEVICE = f"cuda:{max(0, torch.cuda.device_count() - 1)}"
DEVICES = ["cpu", pytest.param("cuda:0", marks=GPU), pytest.param(LAST_DEVICE, marks=GPU)]

TEST_IMAGES = 64
HANDFUL = 2 / TEST_IMAGES * 100
"""Two images, in percent of the test images."""


@pytest.mark.parametrize("device", DEVICES)
def test_tasks_after_training(device: str, graph_of: Callable[..., Graph], tmp_path: Path) -> None:
    """Alignments permute units in the same way, logits agree to rounding, and metrics but for a handful of images."""
    tasks = list(toy_graph(graph_of).tasks.values())
    trainings = [task for task in tasks if task.kind == "train"]
    others = [task for task in tasks if task.kind != "train"]
    expected, found = tmp_path / "expected", tmp_path / "found"
    do_tasks(trainings, expected, "cpu")
    shutil.copytree(expected, found)
    do_tasks(others, expected, "cpu")
    do_tasks(others, found, device)
    for task in others:
        tensors, expected_tensors = stored_tensors(task, found), stored_tensors(task, expected)
        if task.kind == "derive":
            assert equal(tensors, expected_tensors)
        elif task.kind == "predict":
            torch.testing.assert_close(tensors, expected_tensors, rtol=1e-3, atol=1e-4)
        else:
            assert task.kind == "measure"
            pairs = zip(stored_values(task, found), stored_values(task, expected), strict=True)
            for value, expected_value in pairs:
                assert value["metric"] == expected_value["metric"]
                assert value["value"] == pytest.approx(expected_value["value"], abs=HANDFUL)


@pytest.mark.parametrize("device", DEVICES)
def test_training_tasks(device: str, graph_of: Callable[..., Graph], tmp_path: Path) -> None:
    """Weights in float32, with dropout and BatchNorm, with and without a teacher, are close to those of the CPU."""
    tasks = [task for task in toy_graph(graph_of).tasks.values() if task.kind == "train"]
    do_tasks(tasks, tmp_path / "expected", "cpu")
    do_tasks(tasks, tmp_path / "found", device)
    for task in tasks:
        found, expected = stored_tensors(task, tmp_path / "found"), stored_tensors(task, tmp_path / "expected")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0.05, atol=0.01)
