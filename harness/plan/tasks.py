"""Handles → tasks: what a worker is told, and the key of what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.api.interfaces import Metric
from harness.api.task import FORMAT, Task, key_of
from harness.api.trajectory import Checkpoint, DerivedWeights, Weights
from harness.benchmark import LabeledPlugin
from harness.plan.store_view import StoreView


def train_task(checkpoint: Checkpoint, start: Checkpoint | None) -> Task:
    """Return the task that trains up to a checkpoint, from an earlier one of the same trajectory, from the one it was forked
    at, or from initialization."""
    trajectory = checkpoint.trajectory
    teacher = trajectory.teacher
    begin = 0 if start is None else start.epoch
    spec = {
        "kind": "train",
        "setting": trajectory.setting.spec,
        "trajectory": trajectory.spec,
        "trajectory_key": trajectory.key,
        "epoch": checkpoint.epoch,
        "from": {
            "epoch": begin,
            "object": None if start is None else start.location["object"],
            "part": None if start is None else start.location["part"],
            "own": start is not None and start.trajectory == trajectory,
        },
        "teacher": None if teacher is None else {**teacher.location, "setting": teacher.setting.spec},
    }
    parents = tuple(w.location["object"] for w in (start, teacher) if w is not None)
    siblings = key_of(
        ["train", trajectory.setting.key, begin, checkpoint.epoch, trajectory.objective.name, trajectory.constant_learning_rate]
    )
    cost = (checkpoint.epoch - begin) * trajectory.objective.epoch_cost
    return Task(checkpoint.key, "train", spec, parents, siblings, cost)


def shortened(task: Task, store: StoreView) -> Task:
    """Return a training task that starts from the latest epoch of its trajectory that is stored."""
    spec = task.spec
    later = {e: key for e, key in store.epochs(spec["trajectory_key"]).items() if spec["from"]["epoch"] < e < spec["epoch"]}
    if not later:
        return task
    epoch = max(later)
    start = {"epoch": epoch, "object": later[epoch], "part": "weights", "own": True}
    teacher = task.parents[1:] if task.spec["from"]["object"] else task.parents
    cost = task.cost * (spec["epoch"] - epoch) / (spec["epoch"] - spec["from"]["epoch"])
    return Task(task.key, task.kind, {**spec, "from": start}, (later[epoch], *teacher), task.group, cost)


def check_task(train: Task) -> Task:
    """Return the task that tries a training's setting and objective on two images, before any training of them."""
    teacher = train.spec["teacher"]
    spec = {
        "kind": "check",
        "format": FORMAT,
        "setting": train.spec["setting"],
        "objective": {**train.spec["trajectory"]["objective"], "teacher": None},
        "teacher": None if teacher is None else teacher["setting"],
    }
    key = key_of(spec)
    return Task(key, "check", spec, (), key)


def derive_task(weights: DerivedWeights) -> Task:
    """Return the task that computes all outputs of a derivation."""
    spec = {
        **weights.task_spec,
        "setting": weights.setting.spec,
        "parent_locations": [parent.location for parent in weights.parents],
    }
    parents = tuple(dict.fromkeys(parent.location["object"] for parent in weights.parents))
    return Task(weights.task_key, "derive", spec, parents, key_of(["derive", weights.setting.key]))


def predict_task(weights: Weights) -> Task:
    """Return the task that computes a network's logits on the test split, once for all metrics."""
    identity = {"kind": "predict", "format": FORMAT, "weights": weights.key, "setting": weights.setting.key, "split": "test"}
    spec = {"kind": "predict", "setting": weights.setting.spec, "weights": weights.key, "location": weights.location}
    parent = weights.location["object"]
    return Task(
        key_of(identity), "predict", {**spec, "identity": identity}, (parent,), key_of(["predict", weights.setting.key])
    )


def measure_task(named: LabeledPlugin, members: Sequence[Weights], predictions: Sequence[Task], seed: int) -> Task:
    """Return the task that measures an ensemble with a metric."""
    metric: Metric = named.plugin
    setting = members[0].setting
    identity = {
        "kind": "measure",
        "format": FORMAT,
        "metric": metric.identity,
        "members": [member.key for member in members],
        "setting": setting.key,
        "seed": seed,
    }
    spec: dict[str, Any] = {
        "kind": "measure",
        "setting": setting.spec,
        "metric": metric.identity,
        "seed": seed,
        "members": [member.location for member in members],
        "predictions": [task.key for task in predictions],
        "identity": identity,
    }
    objects = (member.location["object"] for member in members)
    parents = tuple(dict.fromkeys((*(task.key for task in predictions), *objects)))
    return Task(key_of(identity), "measure", spec, parents, key_of(["measure", ensemble_key(members), seed]))


def ensemble_key(members: Sequence[Weights]) -> str:
    """Return the key of an ensemble."""
    return key_of({"kind": "ensemble", "members": [member.key for member in members]})
