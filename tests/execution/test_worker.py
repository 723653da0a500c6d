"""One task done by a worker: its outcome, whatever happens."""

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
from harness.execution.worker import Worker, lease_key
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.events import Event, ObjectQuarantined, TaskStarted, TaskWaiting, TrainingStarted

GraphOf = Callable[..., Graph]


def worker(
    lab: Lab, catalogue: Catalogue | None = None, stopping: Callable[[], bool] = lambda: False, emit: Any = None
) -> Worker:
    """Return a worker on the lab's store that notes its events in `lab.events`."""
    emit = emit or lab.events.append
    return Worker(RunContext(catalogue or toys.catalogue(), lab.store.root, lab.folder, "cpu", emit, stopping))


def first(graph: Graph, kind: str) -> Task:
    """Return the first task of a kind."""
    return next(task for task in graph.tasks.values() if task.kind == kind)


def test_done_task_is_in_the_store(graph_of: GraphOf, lab: Lab) -> None:
    """The checkpoint, its history and what the task was told are stored; start and training are reported."""
    task = first(graph_of(), "train")
    outcome = worker(lab).attempt(task)
    assert (outcome.key, outcome.status, outcome.message) == (task.key, "done", "")
    meta = lab.store.meta(task.key)
    assert meta["kind"] == "train"
    assert meta["spec"] == task.spec.to_json() | {"trajectory": meta["spec"]["trajectory"]}
    assert [record["epoch"] for record in meta["history"]] == list(range(1, task.spec.epoch + 1))
    assert [type(event) for event in lab.events[:2]] == [TaskStarted, TrainingStarted]


def test_done_task_is_not_done_again(graph_of: GraphOf, lab: Lab) -> None:
    """A task whose object is stored is done at once, and nothing is reported."""
    task = first(graph_of(), "train")
    worker(lab).attempt(task)
    lab.events.clear()
    assert worker(lab).attempt(task).status == "done"
    assert lab.events == []


def test_missing_parent_is_named_as_damaged(graph_of: GraphOf, lab: Lab) -> None:
    """A task that reads an object which is not there names the object, so that it is made again."""
    task = first(graph_of(), "predict")
    outcome = worker(lab).attempt(task)
    assert (outcome.status, outcome.damaged) == ("damaged", task.parents[0])


def test_incomplete_object_is_quarantined(graph_of: GraphOf, lab: Lab) -> None:
    """What a crash left of an object is moved away, and the task is done."""
    task = first(graph_of(), "train")
    worker(lab).attempt(task)
    lab.store.path(task.key).unlink()
    lab.events.clear()
    outcome = worker(lab).attempt(task)
    assert outcome.status == "done"
    assert lab.store.has(task.key)
    assert any(isinstance(event, ObjectQuarantined) for event in lab.events)


def failing_metric(error: BaseException) -> type[harness.Metric]:
    """Return a metric that raises an error."""

    class Failing(harness.Metric):
        name = "failing"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Sequence[harness.MetricValue]:
            raise error

    return Failing


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), RecursionError("deep"), GeneratorExit()])
def test_plugin_that_raises_fails_its_task(graph_of: GraphOf, lab: Lab, error: BaseException) -> None:
    """Whatever it raises, the outcome names it and the store keeps the traceback."""
    catalogue = toys.catalogue(("metric", failing_metric(error)))
    graph = graph_of(catalogue, methods=["deep"], metrics=["failing"])
    hand = worker(lab, catalogue)
    for task in graph.tasks.values():
        outcome = hand.attempt(task)
    assert outcome.status == "failed"
    assert outcome.message.startswith(
        f"metric 'failing' of plugin 'toys' of distribution 'tests 0': measure raised {type(error).__name__}"
    )
    assert "raise error" in outcome.traceback
    assert lab.store.failure(outcome.key) is not None


def test_user_interrupt_is_no_failure(graph_of: GraphOf, lab: Lab) -> None:
    """Ctrl-C during a plugin's code ends the run, not the task."""
    catalogue = toys.catalogue(("metric", failing_metric(KeyboardInterrupt())))
    graph = graph_of(catalogue, methods=["deep"], metrics=["failing"])
    hand = worker(lab, catalogue)
    *before, measure = graph.tasks.values()
    for task in before:
        hand.attempt(task)
    with pytest.raises(KeyboardInterrupt):
        hand.attempt(measure)


def test_state_of_the_process_is_restored(graph_of: GraphOf, lab: Lab) -> None:
    """What a metric does to torch, NumPy, the folder and the recursion limit is undone after the task."""
    folder, limit = Path.cwd(), sys.getrecursionlimit()

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
    hand = worker(lab, catalogue)
    assert {hand.attempt(task).status for task in graph.tasks.values()} == {"done"}
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1
    assert np.geterr()["divide"] != "raise"
    assert (Path.cwd(), sys.getrecursionlimit()) == (folder, limit)


def test_task_of_another_run_is_waited_for(graph_of: GraphOf, lab: Lab) -> None:
    """While another process holds the lease the task waits, reports so once, and takes over when the lease ends."""
    task = first(graph_of(), "train")
    waiting = threading.Event()

    def note(event: Event) -> None:
        lab.events.append(event)
        if isinstance(event, TaskWaiting):
            waiting.set()

    hand = worker(lab, emit=note)
    other = Store(lab.store.root)
    with other.lease(lease_key(task)) as acquired:
        assert acquired
        thread = threading.Thread(target=hand.attempt, args=(task,))
        thread.start()
        assert waiting.wait(timeout=20)
        assert not lab.store.has(task.key)
    thread.join(timeout=60)
    assert lab.store.has(task.key)
    assert len([event for event in lab.events if isinstance(event, TaskWaiting)]) == 1


def test_worker_asked_to_stop_begins_nothing(graph_of: GraphOf, lab: Lab) -> None:
    """A task that is not begun when the run stops stays undone."""
    task = first(graph_of(), "train")
    with pytest.raises(Interrupted):
        worker(lab, stopping=lambda: True).attempt(task)
    assert not lab.store.has(task.key)


def test_trainings_of_one_trajectory_share_a_lease(graph_of: GraphOf) -> None:
    """Two tasks that continue each other exclude each other; other tasks have leases of their own."""
    graph = graph_of(methods=[{"constrained": {"fork_epoch": 1}}, "deep"])
    trainings = [task for task in graph.tasks.values() if task.kind == "train"]
    by_lease: dict[str, set[int]] = {}
    for task in trainings:
        by_lease.setdefault(lease_key(task), set()).add(task.spec.epoch)
    assert {1, 4} in by_lease.values()
    predict = first(graph, "predict")
    assert lease_key(predict) == predict.key
