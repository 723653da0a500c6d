"""A training task against the store: where it starts, what it saves, what it stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import toys
from conftest import Lab
from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.context import RunContext
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import TrainTaskRun, train
from harness.plan.graph import Graph
from harness.telemetry.events import EpochEnded, ObjectQuarantined, TrainingStarted

GraphOf = Callable[..., Graph]
STEPS = 6  # of an epoch: 96 images in batches of 16


def trainings(graph: Graph) -> list[Task]:
    return [task for task in graph.tasks.values() if task.kind == "train"]


def spec_of(task: Task) -> TrainSpec:
    assert isinstance(task.spec, TrainSpec)
    return task.spec


def resources(lab: Lab, stop_after: int | None = None, save_every: float = 60.0) -> TaskResources:
    """Return what tasks use, on the lab's store; the training is asked to stop after a number of steps."""
    looks = iter(range(10**6))

    def stopping() -> bool:
        return stop_after is not None and next(looks) >= stop_after

    context = RunContext(
        toys.catalogue(), lab.store.root, lab.folder, "cpu", lab.events.append, stopping, save_every=save_every
    )
    return TaskResources(context)


def weights(lab: Lab, task: Task) -> dict[str, torch.Tensor]:
    return lab.store.tensors(task.key, "weights")


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_interrupted_training_is_resumed_at_its_step(graph_of: GraphOf, lab: Lab) -> None:
    """Stopped within an epoch, it is resumed there and ends with the weights and history of an uninterrupted one."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    train(task, spec_of(task), resources(lab))
    expected, history = weights(lab, task), lab.store.meta(task.key)["history"]
    lab.store.quarantine(task.key)
    with pytest.raises(Interrupted):
        train(task, spec_of(task), resources(lab, stop_after=STEPS + 2))
    assert not lab.store.has(task.key)
    assert list(lab.store.saved_steps(spec_of(task).trajectory_key)) == [STEPS + 2]
    lab.events.clear()
    train(task, spec_of(task), resources(lab))
    [started] = [event for event in lab.events if isinstance(event, TrainingStarted)]
    assert started.epoch == pytest.approx((STEPS + 2) / STEPS)
    assert equal(weights(lab, task), expected)
    without_seconds = [{**record, "seconds": 0} for record in lab.store.meta(task.key)["history"]]
    assert without_seconds == [{**record, "seconds": 0} for record in history]
    assert list(lab.store.saved_steps(spec_of(task).trajectory_key)) == []


def test_state_is_saved_at_the_end_of_epochs(graph_of: GraphOf, lab: Lab) -> None:
    """After `save_every` seconds, at the next end of an epoch but the last one; what is stored replaces it."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    saved: list[list[int]] = []

    def note(event: Any) -> None:
        if isinstance(event, EpochEnded):
            saved.append(list(lab.store.saved_steps(spec_of(task).trajectory_key)))

    found = resources(lab, save_every=0.0)
    object.__setattr__(found.context, "emit", note)
    train(task, spec_of(task), found)
    assert [max(steps, default=0) for steps in saved] == [0, STEPS, 2 * STEPS, 3 * STEPS]
    assert list(lab.store.saved_steps(spec_of(task).trajectory_key)) == []


def test_fork_starts_from_its_checkpoint_with_momentum(graph_of: GraphOf, lab: Lab) -> None:
    """A fork begins with weights and optimizer state of the checkpoint; its history is its own."""
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


def test_damaged_state_is_quarantined(graph_of: GraphOf, lab: Lab) -> None:
    """A saved state that cannot be read is moved away and reported; the training starts from the one before it."""
    [task] = trainings(graph_of(members=1, methods=["deep"], metrics=["ensemble_accuracy"]))
    with pytest.raises(Interrupted):
        train(task, spec_of(task), resources(lab, stop_after=4))
    [folder] = (lab.store.root / "progress").glob("*/*/*")
    for file in folder.iterdir():
        file.write_bytes(b"")
    lab.events.clear()
    run = TrainTaskRun(task, spec_of(task), resources(lab))
    assert run.start.step == 0
    [event] = [event for event in lab.events if isinstance(event, ObjectQuarantined)]
    assert "step 4" in event.message


def test_other_optimizer_state_is_dropped_on_request(graph_of: GraphOf, lab: Lab) -> None:
    """`fresh_optimizer` keeps the weights of the checkpoint, without its momentum."""
    graph = graph_of(members=2, methods=[{"constrained": {"fork_epoch": 1}}], metrics=["ensemble_accuracy"])
    trunk, *forks = trainings(graph)
    train(trunk, spec_of(trunk), resources(lab))
    fork = next(task for task in forks if spec_of(task).trajectory.start is not None)
    spec = spec_of(fork)
    fresh = spec.model_copy(update={"trajectory": spec.trajectory.model_copy(update={"fresh_optimizer": True})})
    run = TrainTaskRun(fork, fresh, resources(lab))
    assert (run.start.step, run.start.memory, run.start.optimizer_steps) == (STEPS, {}, 0)
    assert equal(run.start.weights, weights(lab, trunk))
