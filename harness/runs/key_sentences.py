"""What a key stands for, in one sentence of plain English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.plugin import full_name
from harness.api.specs import (
    CheckSpec,
    DeriveSpec,
    MeasureSpec,
    PredictSpec,
    ProbeSpec,
    SettingSpec,
    TaskSpec,
    TrainSpec,
    task_spec_from_json,
)
from harness.execution.annotator import describe_coupling, describe_schedule

_NAMED = 4  # values that a sentence names, at most


def sentence(kind: str, spec: Mapping[str, Any]) -> str:
    """Return what has a kind and a spec: `training of resnet20 on digits, seed 0 member 1, cross-entropy, up to epoch 12`.

    The spec is that of a task, or what `RunKeys` returns.
    """
    try:
        if kind in _OF_RUNS:
            return _OF_RUNS[kind](spec)
        return _task(task_spec_from_json(spec))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return f"something of kind '{kind}', whose specification this version of the harness does not know"


def difference_sentence(left: str, right: str, paths: Sequence[str]) -> str:
    """Return in what two keys, given by their sentences, differ."""
    named = ", ".join(paths[:_NAMED])
    if len(paths) > _NAMED:
        named += f" and {_count(len(paths) - _NAMED, 'more value')}"
    if left == right:
        return f"two keys of one description ({left}): these differ in {named}"
    return f"{left}, and {right}: these differ in {named}"


def _task(spec: TaskSpec) -> str:
    if isinstance(spec, ProbeSpec):
        return "probe of a worker, which tests an engine"
    where = _setting_name(spec.setting)
    if isinstance(spec, TrainSpec):
        return f"training of {where}, {_training(spec)}"
    if isinstance(spec, CheckSpec):
        return f"check of {where}, {_checked(spec)}, before its trainings"
    if isinstance(spec, DeriveSpec):
        return f"weights derived by {full_name(spec.derivation)} from {_count(len(spec.parents), 'network')}, {where}"
    if isinstance(spec, PredictSpec):
        images = "the test images"
        if spec.evaluation is not None:
            images = f"split '{spec.evaluation.split}' of {full_name(spec.evaluation.evaluation_set)} for the test images"
        return f"predictions of {full_name(spec.setting.architecture)} on {images} of {full_name(spec.setting.dataset)}"
    assert isinstance(spec, MeasureSpec)
    members = _count(len(spec.members), "member")
    return f"measurement of {full_name(spec.metric)} for an ensemble of {members}, {where}, seed {spec.seed}"


def _checked(spec: CheckSpec) -> str:
    """Return what a check tries: an objective or a derivation."""
    checked = spec.objective or spec.derivation
    assert checked is not None, "a check has one of them"
    return _words(full_name(checked))


def _training(spec: TrainSpec) -> str:
    """Return random streams, objective and epochs of a training."""
    trajectory = spec.trajectory
    parts = []
    if spec.coupled is not None:
        parts.append(describe_coupling(spec.coupled))
    elif len(trajectory.order) == 3:
        parts.append(f"seed {trajectory.order[1]} member {trajectory.order[2]}")
    parts.append(_words(full_name(trajectory.objective)))
    if trajectory.teacher is not None:
        parts.append("with a teacher")
    if trajectory.schedule is not None:
        parts.append(describe_schedule(trajectory.schedule))
    if trajectory.start is not None:
        parts.append(f"started from another training at epoch {trajectory.start_epoch}")
    parts.append(f"up to epoch {spec.epoch}")
    return ", ".join(parts)


def _setting_name(setting: SettingSpec) -> str:
    return f"{full_name(setting.architecture)} on {full_name(setting.dataset)}"


def _setting(spec: Mapping[str, Any]) -> str:
    recipe = spec.get("recipe")
    if not isinstance(recipe, dict):
        return f"setting: {_labels(spec)}"
    batches = f"in batches of {recipe['batch_size']}"
    return f"setting: {_labels(spec)}, {_count(recipe['epochs'], 'epoch')} of {recipe['optimizer']} {batches}"


def _cell(spec: Mapping[str, Any]) -> str:
    methods = " and ".join(method["label"] for method in spec["methods"])
    return f"ensemble of {_count(spec['size'], 'member')} by {methods}, {_labels(spec)}, seed {spec['seed']}"


def _measurement(spec: Mapping[str, Any]) -> str:
    return f"measurement of {spec['metric']} for an {_cell(spec)}"


def _member(spec: Mapping[str, Any]) -> str:
    place = f"{spec['architecture']} on {spec['dataset']}, seed {spec['seed']}"
    return f"member {spec['member']} of {spec['method']}, {place}, stored in object {str(spec['object'])[:12]}"


def _labels(spec: Mapping[str, Any]) -> str:
    return f"{spec['architecture']['label']} on {spec['dataset']['label']}"


_OF_RUNS = {"setting": _setting, "cell": _cell, "measurement": _measurement, "member": _member}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _words(name: str) -> str:
    return name.replace("_", "-")
