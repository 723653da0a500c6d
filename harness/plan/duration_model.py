"""How long tasks will take, from how long others took."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.plan.work_class import Timing, WorkClass, work_class


@dataclass(frozen=True)
class Rate:
    """The seconds of a class of tasks, the median of `count` of them. `siblings` says whether these were side by side.

    `work` is the class that was measured. It may differ from the class of the tasks it is used for in batch size or objective.
    """

    work: WorkClass
    seconds: float
    count: int
    siblings: bool


@dataclass(frozen=True)
class Durations:
    """Seconds of tasks by key, with the rates they are computed from.

    `missing` are the classes of trainings, and `missing_evaluation` those of other tasks, that no rate is known for.
    """

    device: str
    seconds: Mapping[str, float]
    rates: tuple[Rate, ...]
    missing: tuple[WorkClass, ...]
    missing_evaluation: tuple[WorkClass, ...]


class DurationModel:
    """Rates of one device. Epochs of an objective that was never measured are scaled from another one by their costs.

    A derivation that trains and was never measured takes as long as its cost in epochs of training.

    `epoch_costs` are the costs of an epoch by objective, in epochs of plain training.
    """

    def __init__(self, device: str, timings: Iterable[Timing], epoch_costs: Mapping[str, float]) -> None:
        self.device = device
        self._epoch_costs = epoch_costs
        seconds: dict[tuple[WorkClass, bool], list[float]] = defaultdict(list)
        for timing in timings:
            if timing.device == device:
                seconds[timing.work, timing.siblings > 1].append(timing.seconds)
        self._rates: dict[WorkClass, dict[bool, Rate]] = defaultdict(dict)
        for (work, siblings), found in seconds.items():
            self._rates[work][siblings] = Rate(work, statistics.median(found), len(found), siblings)

    def rate(self, work: WorkClass, siblings: bool = False) -> Rate | None:
        """Return the rate of a class, if possible one of tasks side by side (or not); None if nothing similar was measured."""
        for similar in self._similar(work):
            rates = self._rates[similar]
            return rates.get(siblings) or next(iter(rates.values()))
        return None

    def _similar(self, work: WorkClass) -> list[WorkClass]:
        """Return the measured classes that say how long a class takes, the most similar one first."""
        if work in self._rates:
            return [work]
        if work.kind != "train":
            return []
        others = [other for other in self._rates if replace(other, batch_size=0) == replace(work, batch_size=0)]
        others.sort(key=lambda other: abs(other.batch_size - work.batch_size))
        for other in self._rates:
            same_setting = replace(other, plugin="") == replace(work, plugin="")
            if same_setting and other.plugin in self._epoch_costs and other not in others:
                others.append(other)
        return others

    def durations(self, tasks: Mapping[str, Task]) -> Durations:
        """Return the seconds of tasks. A task for which nothing similar was measured takes 0, and its class is missing."""
        group_sizes = Counter(task.group for task in tasks.values())
        seconds: dict[str, float] = {}
        rates: dict[Rate, None] = {}
        missing: dict[WorkClass, None] = {}
        known: dict[tuple[WorkClass, bool], Rate | None] = {}
        for key, task in tasks.items():
            seconds[key] = 0.0
            work = work_class(task.spec)
            if work is None:
                continue
            question = work, group_sizes[task.group] > 1
            if question not in known:
                known[question] = self.rate(*question)
            rate = known[question] or self._training_rate(task, work)
            if rate is None:
                missing.setdefault(work)
                continue
            rates.setdefault(rate)
            seconds[key] = rate.seconds * self._amount(task, work, rate.work)
        trainings = tuple(work for work in missing if work.kind == "train")
        evaluation = tuple(work for work in missing if work.kind != "train")
        return Durations(self.device, seconds, tuple(rates), trainings, evaluation)

    def _training_rate(self, task: Task, work: WorkClass) -> Rate | None:
        """Return the rate of a training of the same network, for a derivation that trains and was never measured."""
        if not task.cost or isinstance(task.spec, TrainSpec):
            return None
        for other in self._rates:
            same_network = (other.dataset, other.architecture) == (work.dataset, work.architecture)
            if other.kind == "train" and same_network and other.plugin in self._epoch_costs:
                return self.rate(other)
        return None

    def _amount(self, task: Task, work: WorkClass, measured: WorkClass) -> float:
        """Return how often a task takes the measured seconds."""
        if not isinstance(task.spec, TrainSpec):
            return 1.0 if work.kind == measured.kind else task.cost / self._epoch_costs[measured.plugin]
        epochs = task.spec.epoch - task.spec.start.epoch
        if work.plugin == measured.plugin:
            return epochs
        return task.cost / self._epoch_costs[measured.plugin]


def epoch_costs(tasks: Iterable[Task]) -> dict[str, float]:
    """Return the cost of an epoch, in epochs of plain training, of the objectives of tasks."""
    costs: dict[str, float] = {}
    for task in tasks:
        work = work_class(task.spec)
        if work is not None and isinstance(task.spec, TrainSpec) and work.plugin not in costs:
            costs[work.plugin] = task.cost / (task.spec.epoch - task.spec.start.epoch)
    return costs


def most_informative_device(timings: Sequence[Timing], tasks: Iterable[Task]) -> str:
    """Return the device whose timings cover the most epochs of tasks; of several, the one with the most timings; "" if none."""
    costs: dict[str, float] = defaultdict(float)
    epochs: dict[WorkClass, float] = defaultdict(float)
    for task in tasks:
        work = work_class(task.spec)
        if work is not None:
            epochs[_setting(work)] += task.cost
    covered = {(timing.device, _setting(timing.work)) for timing in timings if timing.work.kind == "train"}
    for device, setting in covered:
        costs[device] += epochs.get(setting, 0.0)
    counts = Counter(timing.device for timing in timings)
    if not counts:
        return ""
    return max(sorted(counts), key=lambda device: (costs[device], counts[device]))


def _setting(work: WorkClass) -> WorkClass:
    return replace(work, plugin="", batch_size=0)


def plugin_name(text: str) -> str:
    """Return the name in the text of a plugin; "" if there is none."""
    return str(json.loads(text)["name"]) if text else ""
