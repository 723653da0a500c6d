"""What a task is doing, in a few words, the most telling ones first: a narrow screen cuts the end."""

from __future__ import annotations

from harness.api.plugin import full_name
from harness.api.specs import DeriveSpec, PredictSpec
from harness.api.task import Task
from harness.telemetry.events import TaskEvent

VERBS = {"check": "checking", "train": "training", "derive": "deriving", "predict": "predicting", "measure": "measuring"}


def doing(event: TaskEvent, task: Task | None) -> str:
    """Return what a task does: `measuring joint_connectivity of deep, seed 0, resnet20 on digits`.

    `task` is the task of the event, None if it is not one of the run's graph.
    """
    parts = [f"{VERBS.get(event.kind, event.kind)} {_subject(event, task)}".strip()]
    seed = "" if event.seed is None else f"seed {event.seed}"
    if event.kind == "train" and event.member is not None:
        seed = f"{seed} member {event.member}"
    if event.kind == "train":
        parts = [f"{VERBS['train']} {seed}".strip()]
    elif seed:
        parts.append(seed)
    if event.kind != "check" and event.architecture:
        parts.append(f"{event.architecture} on {event.dataset}")
    if event.objective:
        parts.append(event.objective.replace("_", "-"))
    return ", ".join(parts)


def _subject(event: TaskEvent, task: Task | None) -> str:
    """Return what is derived, predicted or measured, and for which methods."""
    if event.kind == "check":
        return f"{event.architecture} on {event.dataset}"
    subject = event.metric
    if task is not None and isinstance(task.spec, DeriveSpec):
        subject = full_name(task.spec.derivation)
    if event.kind == "predict" and event.member is not None:
        subject = f"member {event.member}"
    if task is not None and isinstance(task.spec, PredictSpec) and task.spec.evaluation is not None:
        images = task.spec.evaluation
        subject = f"{subject} on {full_name(images.evaluation_set)} {images.split}".strip()
    methods = _methods(event.methods)
    return f"{subject} of {methods}" if subject and methods else subject or methods


def _methods(names: tuple[str, ...]) -> str:
    """Return the first method, and how many others need the same result."""
    if len(names) < 2:
        return "".join(names)
    return f"{names[0]} and {len(names) - 1} more"
