"""A training task and the store: where it starts, when it saves its state, and what it stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import toys
from conftest import Lab, stop_after
from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import TrainTaskRun, train
from harness.plan.graph import Graph
from harness.telemetry.events import EpochEnded, Event, ObjectQuarantined, TrainingStarted, TrainingStepped

GraphOf = Callable[..., Graph]
STEPS = 6  # steps per epoch: 96 images in batches of 16


def trainings(graph: Graph) -> list[Task]:
    """Return the training tasks of a graph."""
    return [task for task in graph.tasks.values() if task.kind == "train"]


def spec_of(task: Task) -> TrainSpec:
    """Return the spec of a training task."""
    assert isinstance(task.spec, TrainSpec)
    return task.spec


def never() -> bool:
    """Never stop."""
    return False


def resources(
    lab: Lab,
    stopping: Callable[[], bool] = never,
    save_every: float = 60.0,
    emit: Callable[[Event], None] | None = None,
) -> TaskResources:
    """Return what tasks use, on the lab's store; events are appended to `lab.events` unless `emit` is given."""
    emit = emit or lab.events.append
    context = RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", emit, stopping, save_every=save_every)
    return TaskResources(context)


def weights(lab: Lab, task: Task) -> dict[str, torch.Tensor]:
    """Return the stored weights of a training."""
    return lab.store.tensors(task.key, "weights")


def history(lab: Lab, task: Task) -> list[dict[str, Any]]:
    """Return the stored records of a training's epochs, without their duration."""
    return [{**record, "seconds": 0} for record in lab.store.meta(task.key)["history"]]


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Return whether two states are equal to the bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_training_that_is_stopped_within_an_epoch(graph_of: GraphOf, lab: Lab) -> None:
    """It is resumed at its step and ends with the weights and history of an uninterrupted one."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    train(task, spec_of(task), resources(lab))
    expected_weights = weights(lab, task)
    expected_history = history(lab, task)
    lab.store.quarantine(task.key)
    with pytest.raises(Interrupted):
        train(task, spec_of(task), resources(lab, stop_after(STEPS + 2)))
    assert not lab.store.has(task.key)
    assert list(lab.store.training_states.steps(spec_of(task).trajectory_key)) == [STEPS + 2]
    lab.events.clear()
    train(task, spec_of(task), resources(lab))
    [started] = [event for event in lab.events if isinstance(event, TrainingStarted)]
    assert started.epoch == pytest.approx((STEPS + 2) / STEPS)
    assert equal(weights(lab, task), expected_weights)
    assert history(lab, task) == expected_history
    assert list(lab.store.training_states.steps(spec_of(task).trajectory_key)) == []


def test_record_of_how_steps_were_taken(graph_of: GraphOf, lab: Lab) -> None:
    """The stored object says it for every process that continued the training, and so does an event of each."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    with pytest.raises(Interrupted):
        train(task, spec_of(task), resources(lab, stop_after(STEPS)))
    train(task, spec_of(task), resources(lab))
    facts = {"manner": "eager", "siblings": 1, "precision": "fp32", "tf32": False, "fallback": "", "device": "cpu"}
    segments = [{"epoch": epoch, **facts, "torch": torch.__version__} for epoch in (0.0, 1.0)]
    assert lab.store.meta(task.key)["stepping"] == segments
    told = [event for event in lab.events if isinstance(event, TrainingStepped)]
    assert [event.task for event in told] == [task.key, task.key]
    assert {name: getattr(told[0], name) for name in facts} == facts


def test_record_of_the_steps_of_a_fork(graph_of: GraphOf, lab: Lab) -> None:
    """It begins at the fork, as its history does."""
    graph = graph_of(members=2, methods=[{"constrained": {"fork_epoch": 1}}], metrics=["ensemble_accuracy"])
    for task in trainings(graph):
        train(task, spec_of(task), resources(lab))
    for task in trainings(graph):
        begins = 0.0 if spec_of(task).trajectory.start is None else 1.0
        segments = lab.store.meta(task.key)["stepping"]
        assert segments[0]["epoch"] == begins


def test_states_that_are_saved(graph_of: GraphOf, lab: Lab) -> None:
    """With `save_every=0` the state is saved at the end of each epoch except the last one, whose checkpoint replaces it."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    saved: list[list[int]] = []

    def record_saved_steps(event: Event) -> None:
        if isinstance(event, EpochEnded):
            saved.append(list(lab.store.training_states.steps(spec_of(task).trajectory_key)))

    train(task, spec_of(task), resources(lab, save_every=0.0, emit=record_saved_steps))
    assert [max(steps, default=0) for steps in saved] == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert list(lab.store.training_states.steps(spec_of(task).trajectory_key)) == []


def test_start_of_a_fork(graph_of: GraphOf, lab: Lab) -> None:
    """A fork starts with the weights and the optimizer state of its checkpoint, and with an empty history."""
    graph = graph_of(members=2, methods=[{"constrained": {"fork_epoch": 1}}], metrics=["ensemble_accuracy"])
    trunk, *forks = trainings(graph)
    train(trunk, spec_of(trunk), resources(lab))
    fork = next(task for task in forks if spec_of(task).trajectory.start is not None)
    run = TrainTaskRun(fork, spec_of(fork), resources(lab))
    assert run.start.step == STEPS
    assert equal(run.start.weights, weights(lab, trunk))
    assert run.start.optimizer_steps == STEPS
    assert equal(run.start.memory["momentum"], lab.store.tensors(trunk.key, "optimizer-momentum"))
    assert run.start.history == ()


def test_saved_state_that_cannot_be_read(graph_of: GraphOf, lab: Lab) -> None:
    """It is quarantined and reported, and the training starts from the beginning."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    with pytest.raises(Interrupted):
        train(task, spec_of(task), resources(lab, stop_after(4)))
    [folder] = (lab.store.root / "progress").glob("*/*/*")
    for file in folder.iterdir():
        file.write_bytes(b"")
    lab.events.clear()
    run = TrainTaskRun(task, spec_of(task), resources(lab))
    assert run.start.step == 0
    [event] = [event for event in lab.events if isinstance(event, ObjectQuarantined)]
    assert "step 4" in event.message


def test_start_of_a_fork_with_a_fresh_optimizer(graph_of: GraphOf, lab: Lab) -> None:
    """It starts with the weights of its checkpoint, without the optimizer state."""
    graph = graph_of(members=2, methods=[{"constrained": {"fork_epoch": 1}}], metrics=["ensemble_accuracy"])
    trunk, *forks = trainings(graph)
    train(trunk, spec_of(trunk), resources(lab))
    fork = next(task for task in forks if spec_of(task).trajectory.start is not None)
    spec = spec_of(fork)
    fresh = replace(spec, trajectory=replace(spec.trajectory, fresh_optimizer=True))
    run = TrainTaskRun(fork, fresh, resources(lab))
    assert (run.start.step, run.start.memory, run.start.optimizer_steps) == (STEPS, {}, 0)
    assert equal(run.start.weights, weights(lab, trunk))
