"""What a task reads from the store, and the lease that it needs."""

from __future__ import annotations

from harness.api.specs import DeriveSpec, MeasureSpec, PredictSpec, TaskSpec, TrainSpec
from harness.api.task import Task


def objects_of(spec: TaskSpec) -> list[str]:
    """Return the keys of the objects that a task may read, each once."""
    keys: list[str] = []
    match spec:
        case TrainSpec():
            if spec.start.object is not None:
                keys.append(spec.start.object)
            if spec.teacher is not None:
                keys.append(spec.teacher.object)
        case DeriveSpec():
            keys += [location.object for location in spec.parent_locations]
        case PredictSpec():
            keys.append(spec.location.object)
        case MeasureSpec():
            keys += spec.predictions
            for evaluation in spec.evaluation_splits:
                keys += evaluation.predictions
            keys += [location.object for location in spec.members]
    return list(dict.fromkeys(keys))


def trajectory_of(spec: TaskSpec) -> str | None:
    """Return the key of the trajectory whose training states a task reads and writes; None if it trains nothing."""
    return spec.trajectory_key if isinstance(spec, TrainSpec) else None


def lease_key(task: Task) -> str:
    """Return the key of the lease for a task. Trainings of one trajectory have the same lease, so they exclude each other."""
    return trajectory_of(task.spec) or task.key
