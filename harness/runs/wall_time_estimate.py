"""The expected wall time of a run on some workers, and its critical path. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.execution.annotator import TaskFacts, task_facts
from harness.execution.run_plan import RunPlan
from harness.execution.wall_time import wall_time
from harness.plan.duration_model import (
    DurationModel,
    Durations,
    coupling_words,
    epoch_costs,
    most_informative_device,
    plugin_name,
)
from harness.plan.graph import Graph
from harness.plan.longest_path import critical_path
from harness.plan.work_class import Timing, WorkClass, work_class
from harness.runs.stored_timings import is_cpu, stored_timings
from harness.store import Store

Unit = Literal["seconds", "epochs"]

_MOST_NAMED = 3  # classes without timings that a message names
_REMEDY = "`--calibrate` measures one, until then the estimate is in epochs"


@dataclass(frozen=True)
class PathStep:
    """A task on the critical path. `first_epoch` and `last_epoch` are those of a training, else 0."""

    task: Task
    facts: TaskFacts
    length: float
    first_epoch: int
    last_epoch: int


@dataclass(frozen=True)
class WallTimeEstimate:
    """What a run takes on `workers` workers. All lengths are in `unit`.

    `work` is the sum of all tasks. No schedule is shorter than `path_length`, nor than work divided by workers. `epochs` is the
    cost of the trainings on the critical path. `durations` are None if the unit is epochs; then `reason` says why.
    """

    workers: int
    unit: Unit
    wall_time: float
    work: float
    path: tuple[PathStep, ...]
    path_length: float
    epochs: float
    durations: Durations | None
    reason: str = ""

    @property
    def bound(self) -> float:
        """The larger one of the critical path and the work divided by the workers."""
        return max(self.path_length, self.work / self.workers)


def estimate(graph: Graph, tasks: Mapping[str, Task], workers: int, durations: Durations | str) -> WallTimeEstimate:
    """Return the estimate of a run of `tasks`, with their durations, or with the reason why these are unknown."""
    unit: Unit = "epochs"
    lengths: Mapping[str, float] = {key: task.cost for key, task in tasks.items()}
    whole_groups = False
    if isinstance(durations, Durations):
        unit, lengths = "seconds", durations.seconds
        whole_groups = not is_cpu(durations.device)
    path = critical_path(tasks, lengths)
    return WallTimeEstimate(
        workers=workers,
        unit=unit,
        wall_time=wall_time(tasks, lengths, workers, whole_groups=whole_groups),
        work=sum(lengths.values()),
        path=_steps(graph, tasks, path, lengths),
        path_length=sum(lengths[key] for key in path),
        epochs=sum(tasks[key].cost for key in path),
        durations=durations if isinstance(durations, Durations) else None,
        reason=durations if isinstance(durations, str) else "",
    )


def tasks_to_do(graph: Graph, pending: Mapping[str, Task]) -> dict[str, Task]:
    """Return the tasks of a run, checks included, parents before children."""
    return RunPlan(graph).update(pending)


def durations_from_store(graph: Graph, tasks: Mapping[str, Task], folder: Path) -> Durations | str:
    """Return the durations of tasks from what a store has measured; a line that says why they are unknown, if they are."""
    if not folder.is_dir():
        return f"{folder}: no such store, so no epoch was measured; {_REMEDY}"
    store = Store(folder)
    timings = stored_timings(store, wanted_classes(tasks), graph.tasks)
    return durations_from_timings(graph, tasks, timings, str(folder))


def durations_from_calibration(
    graph: Graph, tasks: Mapping[str, Task], calibrated: Sequence[Timing], folder: Path
) -> Durations | str:
    """Return the durations of tasks from measurements on one device, and from what the store says of evaluation on it."""
    if not calibrated:  # no trainings
        return durations_from_store(graph, tasks, folder)
    timings = list(calibrated)
    own = {timing.work for timing in calibrated}
    others = {work for work in wanted_classes(tasks) if work.kind != "train"} - own
    if others and folder.is_dir():
        stored = stored_timings(Store(folder), others, graph.tasks)
        timings += [timing for timing in stored if timing.work in others]
    return durations_from_timings(graph, tasks, timings, "calibration", calibrated[0].device)


def durations_from_timings(
    graph: Graph, tasks: Mapping[str, Task], timings: Sequence[Timing], where: str, device: str = ""
) -> Durations | str:
    """Return the durations of tasks on a device, by default the one that was measured most.

    Return a line that says what is missing if some training was not measured. `where` is the place of the timings.
    """
    device = device or most_informative_device(timings, tasks.values())
    model = DurationModel(device, timings, epoch_costs(graph.tasks.values()))
    durations = model.durations(tasks)
    if durations.missing:
        named = "; ".join(describe_class(work) for work in durations.missing[:_MOST_NAMED])
        more = len(durations.missing) - _MOST_NAMED
        others = f" and {more} more" if more > 0 else ""
        on_device = f" on {device}" if device else ""
        return f"{where}: no epoch of {named}{others} was measured{on_device}; {_REMEDY}"
    return durations


def wanted_classes(tasks: Mapping[str, Task]) -> set[WorkClass]:
    """Return the classes of tasks whose seconds are needed."""
    wanted = set()
    for task in tasks.values():
        work = work_class(task.spec)
        if work is not None:
            wanted.add(work)
    return wanted


def describe_class(work: WorkClass) -> str:
    """Return a class in a few words: `resnet20 on digits (cross_entropy, fp32, batch size 64)`."""
    where = f"{plugin_name(work.architecture)} on {plugin_name(work.dataset)}"
    if work.kind == "train":
        how = plugin_name(work.plugin) + coupling_words(work.plugin)
        return f"{where} ({how}, {work.precision}, batch size {work.batch_size})"
    return f"{work.kind} {plugin_name(work.plugin)} {where}".replace("  ", " ")


def _steps(graph: Graph, tasks: Mapping[str, Task], path: Sequence[str], lengths: Mapping[str, float]) -> tuple[PathStep, ...]:
    cells_by_task = graph.cells_by_task()
    steps = []
    for key in path:
        task = tasks[key]
        first = last = 0
        if isinstance(task.spec, TrainSpec):
            first, last = task.spec.start.epoch, task.spec.epoch
        steps.append(PathStep(task, task_facts(task, cells_by_task.get(key, [])), lengths[key], first, last))
    return tuple(steps)
