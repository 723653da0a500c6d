"""Creates tasks from handles: their specs and their keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from harness.api.derived_weights import DerivedWeights
from harness.api.schedules import Schedule, schedule_json
from harness.api.setting import Setting
from harness.api.specs import (
    CheckSpec,
    DeriveSpec,
    EvaluationPredictions,
    EvaluationSpec,
    MeasureSpec,
    PredictSpec,
    TeacherSpec,
    TrainingStart,
    TrainSpec,
    WeightsLocation,
)
from harness.api.task import FORMAT, Task, key_of
from harness.api.trajectory import Checkpoint, Trajectory, Weights
from harness.plan.evaluations import MetricRequest
from harness.plan.store_view import StoreView


def train_task(checkpoint: Checkpoint, start: Weights | None) -> Task:
    """Return the task that trains up to a checkpoint.

    It starts from an earlier checkpoint of the same trajectory, from the one that the trajectory was forked at, or from
    initialization.
    """
    trajectory = checkpoint.trajectory
    begin = training_start(trajectory, start)
    spec = TrainSpec(
        setting=trajectory.setting.spec,
        trajectory=trajectory.spec,
        trajectory_key=trajectory.key,
        epoch=checkpoint.epoch,
        start=begin,
        teacher=teacher_spec(trajectory),
    )
    sources = [weights for weights in (start, trajectory.teacher) if weights is not None]
    cost = (checkpoint.epoch - begin.epoch) * trajectory.objective.epoch_cost
    return Task(checkpoint.key, spec, objects_with(sources), _siblings(checkpoint, begin.epoch), cost)


def training_start(trajectory: Trajectory, start: Weights | None) -> TrainingStart:
    """Return where a training begins: at some weights, or at initialization."""
    if start is None:
        return TrainingStart(epoch=0)
    where = start.location
    own = isinstance(start, Checkpoint) and start.trajectory == trajectory
    return TrainingStart(epoch=start.epoch, object=where.object, part=where.part, own=own)


def teacher_spec(trajectory: Trajectory) -> TeacherSpec | None:
    """Return where the weights of a training's teacher are, and the teacher's setting; None without a teacher."""
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
    parents += teacher_objects(spec)
    cost = task.cost * (spec.epoch - epoch) / (spec.epoch - spec.start.epoch)
    return Task(task.key, replace(spec, start=start), tuple(dict.fromkeys(parents)), task.group, cost)


def teacher_objects(spec: TrainSpec) -> list[str]:
    """Return the keys of the objects with the weights of a training's teachers."""
    teachers = [spec.teacher]
    if spec.coupled is not None:
        teachers += [member.teacher for member in spec.coupled.members]
    return list(dict.fromkeys(teacher.object for teacher in teachers if teacher is not None))


def check_task(spec: TrainSpec, evaluations: Sequence[EvaluationSpec] = ()) -> Task:
    """Return the task that tries a training's setting and objective on two images, and loads splits of evaluation sets."""
    check = CheckSpec(
        format=FORMAT,
        setting=spec.setting,
        objective=spec.trajectory.objective,
        teacher=None if spec.teacher is None else spec.teacher.setting,
        evaluation_splits=tuple(evaluations),
    )
    key = key_of(check.to_json())
    return Task(key, check, (), key)


def derivation_check_task(spec: DeriveSpec, parents: Sequence[str]) -> Task:
    """Return the task that asks whether a derivation is possible in its setting. `parents` are checks that come before it."""
    check = CheckSpec(
        format=FORMAT,
        setting=spec.setting,
        objective=None,
        teacher=None,
        derivation=spec.derivation,
        sources=spec.sources,
    )
    key = key_of(check.to_json())
    return Task(key, check, tuple(parents), key)


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
    return Task(weights.task_key, spec, objects_with(weights.parents), group, weights.cost)


def predict_task(weights: Weights, evaluation: EvaluationSpec | None = None) -> Task:
    """Return the task that computes a network's logits, once for all metrics: on the test split, or on another one."""
    setting = weights.setting
    split: Any = "test"
    group = _setting_group("predict", setting.key)
    if evaluation is not None:
        split = _split_identity(evaluation)
        group = key_of(["predict", setting.key, split])
    identity = {"kind": "predict", "format": FORMAT, "weights": weights.key, "setting": setting.key, "split": split}
    spec = PredictSpec(
        setting=setting.spec, weights=weights.key, location=weights.location, identity=identity, evaluation=evaluation
    )
    return Task(key_of(identity), spec, (weights.location.object,), group)


def _split_identity(evaluation: EvaluationSpec) -> dict[str, Any]:
    """Return what identifies the images of a split: options that only select splits do not matter."""
    plugin = evaluation.evaluation_set
    return {
        "evaluation_set": plugin["name"],
        "version": plugin["version"],
        "split": evaluation.split,
        "fingerprint": evaluation.fingerprint,
    }


@dataclass(frozen=True)
class CellTasks:
    """The tasks that evaluate an ensemble: its members' predictions on all splits, and its measurements by label."""

    predictions: tuple[Task, ...]
    measures: dict[str, Task]


def cell_tasks(requests: Sequence[MetricRequest], members: Sequence[Weights], seed: int) -> CellTasks:
    """Return the tasks that evaluate an ensemble. Members are evaluated once on each split, whatever number of metrics asks.

    What the measurements have in common is shared in memory.
    """
    on_test = [predict_task(member) for member in members]
    predictions = {task.key: task for task in on_test}
    ensemble = _ensemble(members, on_test, seed)
    measures = {}
    for request in requests:
        evaluations = []
        for option, specs in request.evaluations.items():
            for spec in specs:
                tasks = [predict_task(member, spec) for member in members]
                predictions.update((task.key, task) for task in tasks)
                keys = tuple(task.key for task in tasks)
                evaluations.append(EvaluationPredictions(option=option, split=spec.split, predictions=keys))
        measures[request.label] = _measure_task(request, ensemble, tuple(evaluations))
    return CellTasks(tuple(predictions.values()), measures)


@dataclass(frozen=True)
class _Ensemble:
    """What the measurements of one ensemble have in common."""

    setting: Setting
    seed: int
    keys: list[str]
    locations: tuple[WeightsLocation, ...]
    predictions: tuple[str, ...]
    parents: tuple[str, ...]
    group: str


def _ensemble(members: Sequence[Weights], on_test: Sequence[Task], seed: int) -> _Ensemble:
    predictions = tuple(task.key for task in on_test)
    return _Ensemble(
        setting=members[0].setting,
        seed=seed,
        keys=[member.key for member in members],
        locations=tuple(member.location for member in members),
        predictions=predictions,
        parents=tuple(dict.fromkeys((*predictions, *objects_with(members)))),
        group=key_of(["measure", ensemble_key(members), seed]),
    )


def _measure_task(request: MetricRequest, ensemble: _Ensemble, evaluations: tuple[EvaluationPredictions, ...]) -> Task:
    """Return the task that measures an ensemble with a metric."""
    identity: dict[str, Any] = {
        "kind": "measure",
        "format": FORMAT,
        "metric": request.metric.key_identity,
        "members": ensemble.keys,
        "setting": ensemble.setting.key,
        "seed": ensemble.seed,
    }
    parents = ensemble.parents
    if evaluations:  # other metrics keep the keys that they had before there were evaluation sets
        identity["evaluation_splits"] = _splits_identity(request)
        keys = chain.from_iterable(evaluation.predictions for evaluation in evaluations)
        parents = tuple(dict.fromkeys((*parents, *keys)))
    spec = MeasureSpec(
        setting=ensemble.setting.spec,
        metric=request.metric.identity,
        seed=ensemble.seed,
        members=ensemble.locations,
        predictions=ensemble.predictions,
        identity=identity,
        evaluation_splits=evaluations,
    )
    return Task(key_of(identity), spec, parents, ensemble.group)


def _splits_identity(request: MetricRequest) -> dict[str, Any]:
    """Return what identifies the images that a metric looks at beside the test images, by option."""
    return {option: [_split_identity(spec) for spec in specs] for option, specs in request.evaluations.items()}


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


def objects_with(weights: Iterable[Weights]) -> tuple[str, ...]:
    """Return the keys of the objects with some weights, each once."""
    return tuple(dict.fromkeys(one.location.object for one in weights))
