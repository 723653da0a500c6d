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
            keys += [location.object for location in spec.members]
    return list(dict.fromkeys(keys))


def states_key(task: Task) -> str | None:
    """Return the key of the training states that a task reads and writes; None if it has none.

    It is the key of the trajectory for a training, and the task's own for a derivation.
    """
    match task.spec:
        case TrainSpec():
            return task.spec.trajectory_key
        case DeriveSpec():
            return task.key
        case _:
            return None


def lease_key(task: Task) -> str:
    """Return the key of the lease for a task. Trainings of one trajectory have the same lease, so they exclude each other."""
    return states_key(task) or task.key
