"""`harness plan --workers`: the estimate, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.api.task import Task
    from harness.plan.duration_model import Durations, Rate
    from harness.plan.graph import Graph
    from harness.plan.work_class import Timing, WorkClass
    from harness.registry.catalogue import Catalogue
    from harness.runs.wall_time_estimate import PathStep, WallTimeEstimate

_MOST_STEPS = 12  # of the critical path that are printed


@dataclass(frozen=True)
class Calibration:
    """What `--calibrate` needs: plugins, data root, device."""

    catalogue: Catalogue
    data: Path
    device: str


def estimate_wall_time(
    graph: Graph, pending: Mapping[str, Task], workers: int, store: Path, calibration: Calibration | None
) -> WallTimeEstimate:
    """Return the estimate for a run of pending tasks, from the store or from measurements made now."""
    from harness.runs import wall_time_estimate as estimates

    tasks = estimates.tasks_to_do(graph, pending)
    durations: Durations | str
    if calibration is None:
        durations = estimates.durations_from_store(graph, tasks, store)
    else:
        timings = _calibrate(tasks, calibration)
        durations = estimates.durations_from_calibration(graph, tasks, timings, store)
    return estimates.estimate(graph, tasks, workers, durations)


def _calibrate(tasks: Mapping[str, Task], calibration: Calibration) -> list[Timing]:
    """Measure each class of trainings among tasks, and print how long it takes."""
    from harness.execution.calibration import CalibrationPlace, calibrate
    from harness.runs.wall_time_estimate import describe_class

    place = CalibrationPlace(calibration.catalogue, calibration.data, calibration.device)
    timings = []
    for found in calibrate(tasks.values(), place):
        timing = found.timing
        how = f"per epoch, from {found.steps} steps" if found.steps else "per network"
        click.echo(f"calibrated {describe_class(timing.work)}: {timing.seconds:.3g} s {how}, on {timing.device}", err=True)
        timings.append(timing)
    return timings


def estimate_json(estimate: WallTimeEstimate) -> dict[str, Any]:
    """Return an estimate as JSON; docs/clusters.md explains the fields."""
    durations = estimate.durations
    return {
        "workers": estimate.workers,
        "unit": estimate.unit,
        "reason": estimate.reason,
        "device": "" if durations is None else durations.device,
        "wall_time": _round(estimate.wall_time),
        "work": _round(estimate.work),
        "lower_bound": _round(estimate.bound),
        "critical_path": {
            "length": _round(estimate.path_length),
            "epochs": _round(estimate.epochs),
            "tasks": [_step_json(step) for step in estimate.path],
        },
        "measured": [] if durations is None else [_rate_json(rate) for rate in durations.rates],
        "not_measured": [] if durations is None else [_class_json(work) for work in durations.missing_evaluation],
    }


def _step_json(step: PathStep) -> dict[str, Any]:
    facts = asdict(step.facts)
    return {
        "key": step.task.key,
        "kind": step.task.kind,
        **{**facts, "methods": list(step.facts.methods)},
        "first_epoch": step.first_epoch,
        "last_epoch": step.last_epoch,
        "cost": _round(step.task.cost),
        "length": _round(step.length),
    }


def _rate_json(rate: Rate) -> dict[str, Any]:
    return {**_class_json(rate.work), "seconds": _round(rate.seconds), "tasks": rate.count, "side_by_side": rate.siblings}


def _class_json(work: WorkClass) -> dict[str, Any]:
    from harness.plan.duration_model import plugin_name

    return {
        "kind": work.kind,
        "dataset": plugin_name(work.dataset),
        "architecture": plugin_name(work.architecture),
        "plugin": plugin_name(work.plugin),
        "precision": work.precision,
        "batch_size": work.batch_size,
    }


def _round(value: float) -> float:
    return round(value, 6)


def estimate_text(estimate: WallTimeEstimate) -> str:
    """Return an estimate in some lines."""
    if not estimate.path:
        return "nothing to do: the wall time is that of starting"
    lines = []
    if estimate.reason:
        lines.append(estimate.reason)
    amount = _seconds_text if estimate.unit == "seconds" else _epochs_text
    workers = "1 worker" if estimate.workers == 1 else f"{estimate.workers} workers"
    lines.append(
        f"on {workers}: about {amount(estimate.wall_time)}; "
        f"work {amount(estimate.work)}, at least {amount(estimate.bound)} on so many workers"
    )
    lines += _path_text(estimate, amount(estimate.path_length))
    if estimate.durations is not None:
        lines += _rates_text(estimate.durations)
    return "\n".join(lines)


def _seconds_text(seconds: float) -> str:
    """Return a duration such as `2 h 05 min`, `3 min 20 s` or `12.5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _epochs_text(epochs: float) -> str:
    return f"{epochs:.6g} epochs"


def _path_text(estimate: WallTimeEstimate, length: str) -> list[str]:
    """Return the critical path, its trainings named one by one."""
    trainings = [step for step in estimate.path if step.task.kind == "train"]
    named = [step.facts for step in estimate.path if step.facts.methods][-1:]
    methods = ", ".join(named[0].methods) if named else "no method"
    count = "1 training" if len(trainings) == 1 else f"{len(trainings)} trainings one after another"
    lines = [f"critical path, of {methods}: {length}; {count}, {estimate.epochs:g} epochs"]
    steps = [step for step in estimate.path if step.task.kind != "check"]
    for step in steps[:_MOST_STEPS]:
        lines.append(f"  {_step_text(step)} ({', '.join(step.facts.methods)})")
    if len(steps) > _MOST_STEPS:
        lines.append(f"  and {len(steps) - _MOST_STEPS} more tasks")
    return lines


def _evaluation_name(work: WorkClass) -> str:
    from harness.plan.duration_model import plugin_name

    return f"{work.kind} {plugin_name(work.plugin)}".strip()


def _step_text(step: PathStep) -> str:
    if step.task.kind == "train":
        return f"train {step.facts.description}, epochs {step.first_epoch} to {step.last_epoch}"
    return step.facts.description


def _rates_text(durations: Durations) -> list[str]:
    """Return what was measured, and what was not."""
    from harness.runs.wall_time_estimate import describe_class

    lines = []
    for rate in durations.rates:
        if rate.work.kind == "train":
            siblings = ", side by side" if rate.siblings else ""
            tasks = "1 training" if rate.count == 1 else f"{rate.count} trainings"
            seconds = f"{rate.seconds:.3g} s per epoch"
            lines.append(f"measured: {describe_class(rate.work)}: {seconds}, from {tasks}{siblings}, on {durations.device}")
    if durations.missing_evaluation:
        names = ", ".join(dict.fromkeys(_evaluation_name(work) for work in durations.missing_evaluation))
        lines.append(f"not included, since not measured on this device: {names}")
    return lines
