"""One task of a worker: its outcome, its events, and the state of the process afterwards."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
import toys
from conftest import Lab
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.task_inputs import lease_key
from harness.execution.worker import Worker
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.events import Event, ObjectQuarantined, TaskStarted, TaskWaiting, TrainingStarted

GraphOf = Callable[..., Graph]


def worker(
    lab: Lab, catalogue: Catalogue | None = None, stopping: Callable[[], bool] = lambda: False, emit: Any = None
) -> Worker:
    """Return a worker on the lab's store; its events are appended to `lab.events` unless `emit` is given."""
    context = RunContext(catalogue or toys.catalogue(), lab.store.root, lab.folder, "cpu", emit or lab.events.append, stopping)
    return Worker(context)


def first(graph: Graph, kind: str) -> Task:
    """Return the first task of a kind."""
    return next(task for task in graph.tasks.values() if task.kind == kind)


def test_training_task(graph_of: GraphOf, lab: Lab) -> None:
    """The checkpoint, its history and the task's spec are stored; the starts of task and training are reported."""
    task = first(graph_of(), "train")
    outcome = worker(lab).attempt(task)
    assert (outcome.key, outcome.status, outcome.message) == (task.key, "done", "")
    meta = lab.store.meta(task.key)
    assert meta["kind"] == "train"
    assert meta["spec"] == task.spec.to_json() | {"trajectory": meta["spec"]["trajectory"]}
    assert [record["epoch"] for record in meta["history"]] == list(range(1, task.spec.epoch + 1))
    assert [type(event) for event in lab.events[:2]] == [TaskStarted, TrainingStarted]


def test_task_whose_object_is_stored(graph_of: GraphOf, lab: Lab) -> None:
    """Its outcome is `done`, and nothing is computed or reported."""
    task = first(graph_of(), "train")
    worker(lab).attempt(task)
    lab.events.clear()
    assert worker(lab).attempt(task).status == "done"
    assert lab.events == []


def test_task_whose_parent_is_missing(graph_of: GraphOf, lab: Lab) -> None:
    """Its outcome is `damaged` and names the parent, so that it is computed again."""
    task = first(graph_of(), "predict")
    outcome = worker(lab).attempt(task)
    assert (outcome.status, outcome.damaged) == ("damaged", task.parents[0])


def test_task_whose_object_is_incomplete(graph_of: GraphOf, lab: Lab) -> None:
    """The object is quarantined, the event is reported, and the task is done again."""
    task = first(graph_of(), "train")
    worker(lab).attempt(task)
    lab.store.path(task.key).unlink()
    lab.events.clear()
    outcome = worker(lab).attempt(task)
    assert outcome.status == "done"
    assert lab.store.has(task.key)
    assert [event.key for event in lab.events if isinstance(event, ObjectQuarantined)] == [task.key]


def failing_metric(error: BaseException) -> type[harness.Metric]:
    """Return a metric that raises an error."""

    class Failing(harness.Metric):
        name = "failing"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            raise error

    return Failing


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), RecursionError("deep"), GeneratorExit()])
def test_plugin_that_raises(graph_of: GraphOf, lab: Lab, error: BaseException) -> None:
    """The task fails with the plugin, the hook and the error, and the failure is stored with its traceback."""
    catalogue = toys.catalogue(("metric", failing_metric(error)))
    graph = graph_of(catalogue, methods=["deep"], metrics=["failing"])
    one_worker = worker(lab, catalogue)
    for task in graph.tasks.values():
        outcome = one_worker.attempt(task)
    assert outcome.status == "failed"
    assert outcome.message.startswith(
        f"metric 'failing' of plugin 'toys' of distribution 'tests 0': measure raised {type(error).__name__}"
    )
    assert "raise error" in outcome.traceback
    assert lab.store.failure(outcome.key) is not None


def test_interrupt_in_the_code_of_a_plugin(graph_of: GraphOf, lab: Lab) -> None:
    """KeyboardInterrupt is raised on, and is no failure of the task."""
    catalogue = toys.catalogue(("metric", failing_metric(KeyboardInterrupt())))
    graph = graph_of(catalogue, methods=["deep"], metrics=["failing"])
    one_worker = worker(lab, catalogue)
    *others, measure = graph.tasks.values()
    for task in others:
        one_worker.attempt(task)
    with pytest.raises(KeyboardInterrupt):
        one_worker.attempt(measure)
    assert lab.store.failure(measure.key) is None


def test_metric_that_changes_the_process(graph_of: GraphOf, lab: Lab) -> None:
    """The settings of torch and NumPy, the working folder and the recursion limit are restored after the task."""
    folder = Path.cwd()
    limit = sys.getrecursionlimit()
    errors = np.geterr()

    class Careless(harness.Metric):
        name = "careless"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            torch.set_num_threads(2)
            np.seterr(all="raise")
            sys.setrecursionlimit(limit + 100)
            os.chdir("/")
            return [harness.MetricValue("careless", 1.0)]

    catalogue = toys.catalogue(("metric", Careless))
    graph = graph_of(catalogue, methods=["deep"], metrics=["careless"])
    one_worker = worker(lab, catalogue)
    assert {one_worker.attempt(task).status for task in graph.tasks.values()} == {"done"}
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1
    assert np.geterr() == errors
    assert Path.cwd() == folder
    assert sys.getrecursionlimit() == limit


def test_task_whose_lease_another_run_has(graph_of: GraphOf, lab: Lab) -> None:
    """It waits and reports this once. When the lease ends and the object is missing, this run does the task itself."""
    task = first(graph_of(), "train")
    waiting = threading.Event()

    def note(event: Event) -> None:
        lab.events.append(event)
        if isinstance(event, TaskWaiting):
            waiting.set()

    one_worker = worker(lab, emit=note)
    other = Store(lab.store.root)
    with other.lease(lease_key(task)) as acquired:
        assert acquired
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.append(one_worker.attempt(task)))
        thread.start()
        assert waiting.wait(timeout=20)
        assert not lab.store.has(task.key)
    thread.join(timeout=60)
    assert lab.store.has(task.key)
    assert [outcome.taken_over for outcome in outcomes] == [False]
    assert len([event for event in lab.events if isinstance(event, TaskWaiting)]) == 1


def test_task_that_another_run_has_done(graph_of: GraphOf, lab: Lab) -> None:
    """It is taken over by a worker that has not done it itself; a worker that repeats its own task takes nothing over."""
    task = first(graph_of(), "train")
    one_worker = worker(lab)
    assert not one_worker.attempt(task).taken_over
    assert not one_worker.attempt(task).taken_over
    assert worker(lab).attempt(task).taken_over


def test_worker_of_a_run_that_stops(graph_of: GraphOf, lab: Lab) -> None:
    """It starts no task."""
    task = first(graph_of(), "train")
    with pytest.raises(Interrupted):
        worker(lab, stopping=lambda: True).attempt(task)
    assert not lab.store.has(task.key)


def test_lease_keys(graph_of: GraphOf) -> None:
    """Trainings of one trajectory share a lease key; the lease key of another task is its own key."""
    graph = graph_of(methods=[{"constrained": {"fork_epoch": 1}}, "deep"])
    trainings = [task for task in graph.tasks.values() if task.kind == "train"]
    by_lease: dict[str, set[int]] = {}
    for task in trainings:
        by_lease.setdefault(lease_key(task), set()).add(task.spec.epoch)
    assert {1, 4} in by_lease.values()
    predict = first(graph, "predict")
    assert lease_key(predict) == predict.key
