"""All tasks of a benchmark on a device that refuses what a GPU would, against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

import toys
from conftest import RECIPE, Lab
from fake_device import FakeDevice
from harness.api.specs import TrainSpec
from harness.execution.context import RunContext
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.plan.tasks import check_task
from harness.store import Store

METHODS = [{"distilled": {"fork_epoch": 1}}, "permuted", "multi_permuted"]
METRICS = [
    "ensemble_accuracy",
    {"joint_connectivity": {"draws": 2}},
    {"worst_connectivity": {"draws": 1, "evaluations": 1}},
    {"pairwise_connectivity": {"points": 3}},
]
NETWORK = {"perceptron": {"batchnorm": True, "dropout": 0.2}}

READS = {
    "loop.Trainer._read_sums",
    "loop.Trainer._weights_are_finite",
    "evaluation.differ",
    "environment.TaskEnvironment.check_stored",
    "interpolation.InterpolatedNetwork.__init__",
    "running_statistics.RunningStatistics._changed_by",
    "running_statistics.RunningStatistics._averages_among",
    "running_statistics._weight",
}
"""The functions that read values of the device between steps and passes, never within one."""

READS_OF_CHECKS = {
    "plugin_results.check_logits",
    "training_checks._check_loss",
    "training_checks.check_steps",
    "training_checks.check_backward",
}
"""Those that do so before a training, in its dry pass."""

COPIES_TO_HOST = {"host_copy.to_host", "weight_matching._symmetry", "weight_matching._function_difference"}
"""The functions that copy tensors to the host. Plugins do not see the first one."""


PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def test_documented() -> None:
    """The page on the architecture names every function that waits for the device during a run."""
    text = PAGE.read_text()
    for function in READS | COPIES_TO_HOST:
        assert f"`{function.rpartition('.')[2]}`" in text, function


def done(graph: Graph, folder: Path, name: str) -> dict[str, Any]:
    """Do all tasks of a graph on a device; return what they measured and the tensors that they stored, by key."""
    context = RunContext(toys.catalogue(), folder / name, folder, "cpu", lambda event: None, lambda: False)
    worker = Worker(context)
    worker.resources.device = torch.device(name)
    for task in graph.tasks.values():
        tasks = [check_task(task.spec), task] if isinstance(task.spec, TrainSpec) else [task]
        for one in tasks:
            outcome = worker.attempt(one)
            assert outcome.status == "done", outcome.traceback
    store = Store(folder / name)
    found: dict[str, Any] = {}
    for key, task in graph.tasks.items():
        meta = store.meta(key)
        found[f"{task.kind} {key}"] = meta.get("values")
        for part in meta["files"]:
            found |= {f"{task.kind} {key} {part} {tensor}": value for tensor, value in store.tensors(key, part).items()}
    return found


def test_tasks(graph_of: Callable[..., Graph], lab: Lab) -> None:
    """Trainings, alignments, predictions and metrics are equal to the bit; the functions that wait are known."""
    recipe = {**RECIPE, "epochs": 2}
    graph = graph_of(members=2, methods=METHODS, metrics=METRICS, architectures=[NETWORK], recipe=recipe)
    assert {task.kind for task in graph.tasks.values()} == {"train", "derive", "predict", "measure"}
    results = []
    for device in (FakeDevice(), None):
        with device or nullcontext():
            results.append(done(graph, lab.folder, "maia" if device else "cpu"))
        if device:
            assert device.reads == READS | READS_OF_CHECKS
            assert device.to_host == COPIES_TO_HOST
    found, expected = results
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name
