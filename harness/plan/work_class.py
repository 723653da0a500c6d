"""What tasks have in common that take equally long, and how long they were seen to take."""

from __future__ import annotations

from dataclasses import dataclass

from harness.api.plugin import full_name
from harness.api.specs import DeriveSpec, Identity, MeasureSpec, PredictSpec, TaskSpec, TrainSpec
from harness.api.task import canonical_json


@dataclass(frozen=True, slots=True)
class WorkClass:
    """Tasks that take equally long on one device: per epoch if they are trainings, else per task.

    `dataset`, `architecture` and `plugin` are canonical JSON of names and options. `plugin` is the objective of a training
    (with the coupling of a joint one), the derivation, or the metric. `precision` and `batch_size` are the recipe's. They are
    empty for other tasks than trainings, where they make no difference. Predictions on the splits of evaluation sets count as
    those on the test images.
    """

    kind: str
    dataset: str
    architecture: str
    plugin: str = ""
    precision: str = ""
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a task took: the seconds of one network in one epoch of a training, or of the whole task.

    `device` is the name of a GPU, or `cpu` and the processor. `siblings` is the number of networks that took their steps at
    once; the seconds of all of them are divided by it.
    """

    work: WorkClass
    device: str
    seconds: float
    siblings: int = 1


def work_class(spec: TaskSpec) -> WorkClass | None:
    """Return the class of a task; None for checks, probes and the storing of an initialization, which take seconds once."""
    match spec:
        case TrainSpec() if spec.epoch == spec.start.epoch:
            return None
        case TrainSpec():
            recipe = spec.setting.recipe
            plugin = _training_text(spec)
            precision, batch_size = str(recipe["precision"]), int(recipe["batch_size"])
        case DeriveSpec():
            plugin, precision, batch_size = _text(spec.derivation), "", 0
        case PredictSpec():
            plugin, precision, batch_size = "", "", 0
        case MeasureSpec():
            plugin, precision, batch_size = _text(spec.metric), "", 0
        case _:
            return None
    dataset, architecture = _text(spec.setting.dataset), _text(spec.setting.architecture)
    return WorkClass(spec.kind, dataset, architecture, plugin, precision, batch_size)


def _training_text(spec: TrainSpec) -> str:
    """Return the objective as text; for a joint training also its coupling and the number of its members."""
    if spec.coupled is None:
        return _text(spec.trajectory.objective)
    objective, coupling = spec.trajectory.objective, spec.coupled.coupling
    named = {"name": full_name(objective), "options": objective["options"]}
    tied = {"name": full_name(coupling), "options": coupling["options"]}
    return canonical_json({**named, "coupling": tied, "members": len(spec.coupled.members)})


def _text(identity: Identity) -> str:
    """Return name and options as text. Versions and digests of data make no difference to the time."""
    return canonical_json({"name": full_name(identity), "options": identity["options"]})
