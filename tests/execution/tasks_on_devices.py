"""The tasks of a benchmark of toys, done on any device one after another, and what they stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import toys
from conftest import RECIPE
from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.execution.context import RunContext
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.plan.tasks import check_task
from harness.store import Store

METHODS = [{"aligned": {"by": "activations"}}, {"distilled": {"fork_epoch": 1}}, "permuted", "multi_permuted"]
METRICS = [
    "ensemble_accuracy",
    {"joint_connectivity": {"draws": 2}},
    {"worst_connectivity": {"draws": 1, "evaluations": 1}},
    {"pairwise_connectivity": {"points": 3}},
]
NETWORK = {"perceptron": {"batchnorm": True, "dropout": 0.2}}


def toy_graph(graph_of: Callable[..., Graph]) -> Graph:
    """Return the graph of all kinds of tasks: trainings with and without a teacher, alignments, predictions, metrics."""
    recipe = {**RECIPE, "epochs": 2, "precision": "fp32"}
    return graph_of(members=2, methods=METHODS, metrics=METRICS, architectures=[NETWORK], recipe=recipe)


def do_tasks(tasks: Iterable[Task], store: Path, device: str) -> None:
    """Do tasks on a device, each training after its dry pass."""
    context = RunContext(toys.catalogue(), store, store.parent, "cpu", lambda event: None, lambda: False)
    worker = Worker(context)
    worker.resources.device = torch.device(device)
    for task in tasks:
        checked = [check_task(task.spec), task] if isinstance(task.spec, TrainSpec) else [task]
        for one in checked:
            outcome = worker.attempt(one)
            assert outcome.status == "done", outcome.traceback


def stored_tensors(task: Task, store: Path) -> dict[str, Tensor]:
    """Return the tensors that a task stored, by part and name."""
    opened = Store(store)
    found = {}
    for part in opened.meta(task.key)["files"]:
        for name, tensor in opened.tensors(task.key, part).items():
            found[f"{part}/{name}"] = tensor
    return found


def stored_values(task: Task, store: Path) -> Any:
    """Return the values that a task measured, or None."""
    return Store(store).meta(task.key).get("values")
