"""Measure a short training of each kind on this machine: the actual network, data and step, without a store."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.errors import HarnessError
from harness.execution.device import resolve_device, worker_devices
from harness.execution.environment import TaskEnvironment
from harness.execution.process_state import ProcessState
from harness.execution.tasks.train import make_trainer, teacher_network
from harness.execution.tasks.training_log import device_name
from harness.networks.evaluation import predict
from harness.networks.flat_network import FlatNetwork
from harness.networks.float32 import ieee_float32
from harness.networks.host_copy import to_host
from harness.plan.work_class import Timing, WorkClass, work_class
from harness.registry.catalogue import Catalogue
from harness.telemetry.provenance import provenance
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.stepping import Stepping

_WARMUP_STEPS = 5
_SECONDS = 20.0  # of one measurement; an epoch that takes longer is measured in part
_BLOCK = 16  # steps between two looks at the clock: each waits for the device


@dataclass(frozen=True)
class CalibrationPlace:
    """Where to measure: plugins, data root, device (`auto`, `cpu`, `cuda`, `cuda:INDEX`), and CPU threads."""

    catalogue: Catalogue
    data: Path
    device: str
    threads: int = 1


@dataclass(frozen=True)
class Calibrated:
    """A measurement, and what was measured: the number of steps of a training, 0 for a prediction of all test images."""

    timing: Timing
    steps: int = 0


def calibrate(tasks: Iterable[Task], place: CalibrationPlace) -> Iterator[Calibrated]:
    """Yield the seconds per epoch of each class of trainings among tasks, and of the prediction of one network each.

    Each network is trained alone from its initialization, for an epoch or 20 seconds, after some steps of warm-up; nothing is
    stored. Raise `UserError` if the data set or the device is missing.
    """
    device = torch.device(worker_devices(resolve_device(place.device), 1)[0])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    state = ProcessState(place.threads)
    predicted: set[WorkClass] = set()
    for work, spec in _longest_trainings(tasks).items():
        prediction = WorkClass("predict", work.dataset, work.architecture)
        with ieee_float32(), contextlib.redirect_stdout(sys.stderr):  # a command's output must not contain a plugin's
            state.restore()
            environment = TaskEnvironment(place.catalogue, spec.setting, place.data, device)
            found = [_training(work, spec, environment, place)]
            if prediction not in predicted:
                found.append(_prediction(prediction, environment))
            state.restore()
        predicted.add(prediction)
        yield from found


def _label(device: torch.device) -> str:
    name = device_name(device)
    return f"cpu ({provenance()['processor']})" if name == "cpu" else name


def _longest_trainings(tasks: Iterable[Task]) -> dict[WorkClass, TrainSpec]:
    """Return the training with the most epochs of each class."""
    found: dict[WorkClass, TrainSpec] = {}
    for task in tasks:
        if not isinstance(task.spec, TrainSpec):
            continue
        work = work_class(task.spec)
        if work is None:  # no epochs
            continue
        if work not in found or _epochs(task.spec) > _epochs(found[work]):
            found[work] = task.spec
    return found


def _epochs(spec: TrainSpec) -> int:
    return spec.epoch - spec.start.epoch


class _StepClock:
    """Measures steps after a warm-up. It is asked before every step whether to stop, and does when it has measured enough."""

    def __init__(self, device: torch.device, warmup: int, steps: int) -> None:
        self._device = device
        self._warmup = warmup
        self._last = warmup + steps
        self._taken = 0
        self._began = 0.0
        self._finished = False
        self.steps = 0
        self.seconds = 0.0

    def __call__(self) -> bool:
        """Return whether enough steps were measured. Then one more step is expected."""
        if self._taken == self._warmup:
            self._began = self._now()
        measured = self._taken - self._warmup
        at_end = self._taken >= self._last
        if measured > 0 and (at_end or measured % _BLOCK == 0):
            self.steps, self.seconds = measured, self._now() - self._began
            self._finished = at_end or self.seconds > _SECONDS
        self._taken += not self._finished
        return self._finished

    def finish(self) -> None:
        """Look at the clock after the last step, about which it was not asked."""
        if not self._finished:
            self._last = self._taken
            self()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _training(work: WorkClass, spec: TrainSpec, environment: TaskEnvironment, place: CalibrationPlace) -> Calibrated:
    """Take steps of a training from the step at which it starts; of a joint training, those of its first member."""
    trainer = make_trainer(spec.trajectory, environment, place.catalogue, _teacher(spec, environment, place))
    per_epoch = trainer.steps_per_epoch
    total = _epochs(spec) * per_epoch
    warmup = min(_WARMUP_STEPS, total // 2)
    steps = min(per_epoch, total - warmup)
    clock = _StepClock(environment.device, warmup, steps)
    start = Point(spec.start.epoch * per_epoch, trainer.network.state())
    until = spec.start.epoch + math.ceil((warmup + steps) / per_epoch)
    train_together([trainer], [start], until, stopping=clock, on_stepping=_ignore)
    clock.finish()
    if not clock.steps:
        raise HarnessError(f"{environment.architecture_label}: its training diverged before it could be measured")
    members = 1.0 if spec.coupled is None else spec.coupled.epoch_cost
    timing = Timing(work, _label(environment.device), members * per_epoch * clock.seconds / clock.steps)
    return Calibrated(timing, clock.steps)


def _ignore(stepping: Stepping) -> None:
    pass


def _teacher(spec: TrainSpec, environment: TaskEnvironment, place: CalibrationPlace) -> FlatNetwork | None:
    """Return a teacher that has learned nothing: it takes as long."""
    if spec.teacher is None:
        return None
    return teacher_network(place.catalogue, spec.teacher.setting, environment, place.data)


def _prediction(work: WorkClass, environment: TaskEnvironment) -> Calibrated:
    """Predict all test images, and once more if that does not take long."""
    network = environment.network()
    seconds = _seconds_of_prediction(network, environment)
    if seconds < _SECONDS:
        seconds = _seconds_of_prediction(network, environment)
    return Calibrated(Timing(work, _label(environment.device), seconds))


def _seconds_of_prediction(network: FlatNetwork, environment: TaskEnvironment) -> float:
    began = time.perf_counter()
    to_host(predict(network, environment.test_images))
    return time.perf_counter() - began
