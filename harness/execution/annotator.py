"""Adds fields to events of tasks: data set, architecture, methods, seed, ... with the labels of the benchmark file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.api.plugin import full_name
from harness.api.specs import CheckSpec, CoupledSpec, MeasureSpec, PredictSpec, ProbeSpec, TrainSpec
from harness.api.task import Task
from harness.execution.run_plan import RunPlan
from harness.plan.graph import PlannedCell
from harness.telemetry.events import Event, TaskEnded, TaskEvent, TaskStarted


@dataclass(frozen=True)
class TaskFacts:
    """The fields of `TaskEvent` that the process running the benchmark adds."""

    dataset: str
    architecture: str
    seed: int | None
    member: int | None
    methods: tuple[str, ...]
    objective: str
    metric: str
    description: str
    trajectory: str = ""
    trained_for: str = ""


class EventAnnotator:
    """Completes the events of one run: adds the run's folder, the fields of tasks, and their seconds."""

    def __init__(self, plan: RunPlan, folder: Path) -> None:
        self._plan = plan
        self._folder = str(folder)
        self._facts: dict[str, TaskFacts] = {}
        self._began: dict[str, float] = {}

    def __call__(self, event: Event) -> Event:
        """Return the completed event."""
        if isinstance(event, TaskEvent):
            event = self._complete(event)
        return replace(event, folder=self._folder)

    def _complete(self, event: TaskEvent) -> TaskEvent:
        key = event.task
        if isinstance(event, TaskStarted):
            self._began[key] = event.time
        if isinstance(event, TaskEnded) and key in self._began:
            event = replace(event, seconds=round(event.time - self._began.pop(key), 3))
        task = self._plan.tasks.get(key)
        if task is None:  # a task of another benchmark
            return event
        if key not in self._facts:
            self._facts[key] = self._with_training(task, task_facts(task, self._cells(key)))
        return replace(event, cost=task.cost, **asdict(self._facts[key]))

    @cached_property
    def _cells_by_task(self) -> dict[str, list[PlannedCell]]:
        return self._plan.graph.cells_by_task()

    @cached_property
    def _last_parts(self) -> dict[str, Task]:
        """The last task of each training, by the key of its trajectory."""
        last: dict[str, Task] = {}
        for task in self._plan.graph.tasks.values():
            if isinstance(task.spec, TrainSpec):
                key = task.spec.trajectory_key
                if key not in last or _until(last[key]) < _until(task):
                    last[key] = task
        return last

    def _with_training(self, task: Task, facts: TaskFacts) -> TaskFacts:
        """Return facts with those about the training that a task is a part of."""
        if not isinstance(task.spec, TrainSpec):
            return facts
        trajectory = task.spec.trajectory_key
        cells = self._cells(self._last_parts[trajectory].key)
        return replace(facts, trajectory=trajectory, trained_for=cells[0].spec.method.label if cells else "")

    def _cells(self, key: str) -> list[PlannedCell]:
        """Return the cells that need a task. A check is needed by the cells of the tasks that it is made for."""
        found: dict[int, PlannedCell] = {}
        for needed in self._plan.tasks_by_check.get(key, (key,)):
            for cell in self._cells_by_task.get(needed, ()):
                found[id(cell)] = cell
        return list(found.values())


def _until(task: Task) -> int:
    assert isinstance(task.spec, TrainSpec)
    return task.spec.epoch


def task_facts(task: Task, cells: Sequence[PlannedCell]) -> TaskFacts:
    """Return the facts about a task. `cells` are the cells that need it."""
    spec = task.spec
    assert not isinstance(spec, ProbeSpec), "no plan contains probes"
    dataset, architecture = full_name(spec.setting.dataset), full_name(spec.setting.architecture)
    seed = member = None
    if cells:
        first = cells[0].spec
        dataset, architecture, seed = first.dataset.label, first.architecture.label, first.seed
    objective = metric = ""
    if isinstance(spec, TrainSpec):
        seed, member = seed_and_member(spec)
        objective = full_name(spec.trajectory.objective)
    elif isinstance(spec, CheckSpec):
        seed = None
        if spec.objective is not None:
            objective = full_name(spec.objective)
    elif isinstance(spec, PredictSpec):
        member = _member_index(spec, cells)
    elif isinstance(spec, MeasureSpec):
        seed, metric = spec.seed, full_name(spec.metric)
    methods = tuple(dict.fromkeys(cell.spec.method.label for cell in cells))
    return TaskFacts(dataset, architecture, seed, member, methods, objective, metric, describe(task))


def describe(task: Task) -> str:
    """Return a summary of a task, such as `resnet20 on cifar10, seed 0 member 1, cross-entropy`."""
    spec = task.spec
    assert not isinstance(spec, ProbeSpec), "no plan contains probes"
    where = f"{full_name(spec.setting.architecture)} on {full_name(spec.setting.dataset)}"
    if isinstance(spec, MeasureSpec):
        return f"measure {full_name(spec.metric)} {where}"
    if isinstance(spec, PredictSpec) and spec.evaluation is not None:
        return f"predict {where}, {full_name(spec.evaluation.evaluation_set)} {spec.evaluation.split}"
    if isinstance(spec, CheckSpec) and spec.derivation is not None:
        return f"check {full_name(spec.derivation)} {where}"
    if not isinstance(spec, TrainSpec):
        return f"{spec.kind} {where}"
    seed, member = seed_and_member(spec)
    objective = full_name(spec.trajectory.objective).replace("_", "-")
    which = f"member {member}" if spec.coupled is None else describe_coupling(spec.coupled)
    line = f"{where}, seed {seed} {which}, {objective}"
    schedule = spec.trajectory.schedule
    return line if schedule is None else f"{line}, {describe_schedule(schedule)}"


def describe_schedule(schedule: Mapping[str, Any]) -> str:
    """Return a trajectory's schedule in a few words: `constant learning rate 0.01`."""
    if schedule["kind"] == "constant":
        return f"constant learning rate {schedule['rate']:g}"
    return f"{schedule['kind'].replace('_', ' ')} schedule"


def describe_coupling(coupled: CoupledSpec) -> str:
    """Return the members of a joint training in a few words: `3 members coupled by pull`."""
    return f"{len(coupled.members)} members coupled by {full_name(coupled.coupling)}"


def seed_and_member(spec: TrainSpec) -> tuple[int | None, int | None]:
    """Return the seed and the member of a training, from the name of its order stream, ("order", seed, member).

    They are None for other names; the member is None for a joint training.
    """
    order = spec.trajectory.order
    if len(order) != 3:
        return None, None
    _, seed, member = order
    return _int_or_none(seed), _int_or_none(member) if spec.coupled is None else None


def _int_or_none(part: str | int) -> int | None:
    return part if isinstance(part, int) else None


def _member_index(spec: PredictSpec, cells: Sequence[PlannedCell]) -> int | None:
    """Return the index of the member whose prediction is computed, in the first ensemble that contains it."""
    for cell in cells:
        for index, member in enumerate(cell.members):
            if member.key == spec.weights:
                return index
    return None
