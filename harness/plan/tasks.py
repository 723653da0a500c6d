"""Creates tasks from handles: their specs and their keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from harness.api.interfaces import Metric
from harness.api.schedules import Schedule, schedule_json
from harness.api.specs import CheckSpec, DeriveSpec, MeasureSpec, PredictSpec, TeacherSpec, TrainingStart, TrainSpec
from harness.api.task import FORMAT, Task, key_of
from harness.api.trajectory import Checkpoint, DerivedWeights, Trajectory, Weights
from harness.benchmark import LabeledPlugin
from harness.plan.store_view import StoreView


def train_task(checkpoint: Checkpoint, start: Weights | None) -> Task:
    """Return the task that trains up to a checkpoint.

    It starts from an earlier checkpoint of the same trajectory, from the one that the trajectory was forked at, or from
    initialization.
    """
    trajectory = checkpoint.trajectory
    begin = _training_start(trajectory, start)
    spec = TrainSpec(
        setting=trajectory.setting.spec,
        trajectory=trajectory.spec,
        trajectory_key=trajectory.key,
        epoch=checkpoint.epoch,
        start=begin,
        teacher=_teacher(trajectory),
    )
    sources = [weights for weights in (start, trajectory.teacher) if weights is not None]
    cost = (checkpoint.epoch - begin.epoch) * trajectory.objective.epoch_cost
    return Task(checkpoint.key, spec, _objects(sources), _siblings(checkpoint, begin.epoch), cost)


def _training_start(trajectory: Trajectory, start: Weights | None) -> TrainingStart:
    if start is None:
        return TrainingStart(epoch=0)
    where = start.location
    own = isinstance(start, Checkpoint) and start.trajectory == trajectory
    return TrainingStart(epoch=start.epoch, object=where.object, part=where.part, own=own)


def _teacher(trajectory: Trajectory) -> TeacherSpec | None:
    teacher = trajectory.teacher
    if teacher is None:
        return None
    return TeacherSpec(object=teacher.location.object, part=teacher.location.part, setting=teacher.setting.spec)


def _siblings(checkpoint: Checkpoint, begin: int) -> str:
    """Return the group of a training. It is equal for siblings: trainings that can run side by side."""
    trajectory = checkpoint.trajectory
    return _sibling_group(trajectory.setting.key, begin, checkpoint.epoch, trajectory.objective.name, trajectory.schedule)


@lru_cache(maxsize=1024)
def _sibling_group(setting: str, begin: int, end: int, objective: str, schedule: Schedule | None) -> str:
    return key_of(["train", setting, begin, end, objective, None if schedule is None else schedule_json(schedule)])


def shortened(task: Task, store: StoreView) -> Task:
    """Return a training task that starts from the latest stored epoch of its trajectory before its end."""
    spec = task.spec
    assert isinstance(spec, TrainSpec)
    stored = store.epochs(spec.trajectory_key)
    later = [epoch for epoch in stored if spec.start.epoch < epoch < spec.epoch]
    if not later:
        return task
    epoch = max(later)
    start = TrainingStart(epoch=epoch, object=stored[epoch], part="weights", own=True)
    parents = [stored[epoch]]
    if spec.teacher is not None:
        parents.append(spec.teacher.object)
    cost = task.cost * (spec.epoch - epoch) / (spec.epoch - spec.start.epoch)
    return Task(task.key, replace(spec, start=start), tuple(parents), task.group, cost)


def check_task(spec: TrainSpec) -> Task:
    """Return the task that tries a training's setting and objective on two images."""
    check = CheckSpec(
        format=FORMAT,
        setting=spec.setting,
        objective=spec.trajectory.objective,
        teacher=None if spec.teacher is None else spec.teacher.setting,
    )
    key = key_of(check.to_json())
    return Task(key, check, (), key)


def derive_task(weights: DerivedWeights) -> Task:
    """Return the task that computes all outputs of a derivation."""
    made_of = weights.task_spec
    spec = DeriveSpec(
        format=made_of.format,
        setting=weights.setting.spec,
        derivation=made_of.derivation,
        parents=made_of.parents,
        stream=made_of.stream,
        parent_locations=tuple(parent.location for parent in weights.parents),
        sources=tuple(str(path) for path in weights.derivation.sources),
    )
    group = _setting_group("derive", weights.setting.key)
    return Task(weights.task_key, spec, _objects(weights.parents), group, weights.cost)


def predict_task(weights: Weights) -> Task:
    """Return the task that computes a network's logits on the test split, once for all metrics."""
    setting = weights.setting
    identity = {"kind": "predict", "format": FORMAT, "weights": weights.key, "setting": setting.key, "split": "test"}
    spec = PredictSpec(setting=setting.spec, weights=weights.key, location=weights.location, identity=identity)
    return Task(key_of(identity), spec, (weights.location.object,), _setting_group("predict", setting.key))


def measure_tasks(
    metrics: Iterable[LabeledPlugin], members: Sequence[Weights], predictions: Sequence[Task], seed: int
) -> dict[str, Task]:
    """Return the tasks that measure an ensemble, by the metric's label. What they have in common is shared in memory."""
    setting = members[0].setting
    keys = [member.key for member in members]
    locations = tuple(member.location for member in members)
    prediction_keys = tuple(task.key for task in predictions)
    parents = tuple(dict.fromkeys((*prediction_keys, *_objects(members))))
    group = key_of(["measure", ensemble_key(members), seed])
    tasks = {}
    for labeled in metrics:
        metric: Metric = labeled.plugin
        identity = {
            "kind": "measure",
            "format": FORMAT,
            "metric": metric.key_identity,
            "members": keys,
            "setting": setting.key,
            "seed": seed,
        }
        spec = MeasureSpec(
            setting=setting.spec,
            metric=metric.identity,
            seed=seed,
            members=locations,
            predictions=prediction_keys,
            identity=identity,
        )
        tasks[labeled.label] = Task(key_of(identity), spec, parents, group)
    return tasks


@lru_cache(maxsize=256)
def _setting_group(kind: str, setting: str) -> str:
    """Return the group of all tasks of a kind in a setting, given the setting's key."""
    return key_of([kind, setting])


def ensemble_key(members: Sequence[Weights]) -> str:
    """Return the key of an ensemble: the hash of its members' keys, in order."""
    return key_of_ensemble([member.key for member in members])


def key_of_ensemble(keys: Sequence[str]) -> str:
    """Return the key of an ensemble whose members have these keys, in order."""
    return key_of({"kind": "ensemble", "members": list(keys)})


def _objects(weights: Iterable[Weights]) -> tuple[str, ...]:
    """Return the keys of the objects with some weights, each once."""
    return tuple(dict.fromkeys(one.location.object for one in weights))
