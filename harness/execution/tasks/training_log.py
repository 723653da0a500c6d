"""What a training task tells while it runs: the events of its beginning, its steps and its epochs."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import torch

from harness.api.specs import TrainSpec
from harness.api.task import Task
from harness.execution.tasks.resources import TaskResources
from harness.telemetry.events import EpochEnded, TrainingStarted, TrainingStepped
from harness.training.point import EpochRecord
from harness.training.stepping import Stepping


class TrainingLog:
    """Reports a training task, and says when to save its state. `began` is the monotonic time at which the task began.

    `segments` are JSON: how the steps were taken, by each process that continued the training.
    """

    def __init__(self, task: Task, spec: TrainSpec, resources: TaskResources) -> None:
        self.segments: list[Any] = []
        self.began = self._last_save = time.monotonic()
        self._task = task
        self._until = spec.epoch
        self._context = resources.context

    def begin(self, epoch: float) -> None:
        """Report that the training begins at an epoch, or is resumed there."""
        self._last_save = time.monotonic()
        self._context.emit(
            TrainingStarted(
                task=self._task.key,
                kind=self._task.kind,
                epoch=epoch,
                until=self._until,
                threads=torch.get_num_threads(),
            )
        )

    def record_stepping(self, epoch: float, stepping: Stepping, device: torch.device) -> None:
        """Report how the steps are taken from an epoch on, and keep it for the stored object."""
        facts = {**asdict(stepping), "device": device_name(device)}
        self.segments.append({"epoch": epoch, **facts, "torch": torch.__version__})
        self._context.emit(TrainingStepped(task=self._task.key, kind=self._task.kind, **facts))

    def report_epoch(self, record: EpochRecord) -> bool:
        """Report an epoch. Return whether to save the training's state now: the last save was too long ago."""
        self._context.emit(
            EpochEnded(
                task=self._task.key,
                kind=self._task.kind,
                epoch=record.epoch,
                until=self._until,
                loss=record.loss,
                accuracy=record.accuracy,
                learning_rate=record.learning_rate,
                seconds=round(record.seconds, 3),
            )
        )
        since_save = time.monotonic() - self._last_save
        return record.epoch < self._until and since_save > self._context.save_every

    def note_save(self) -> None:
        """Note that the training's state was saved."""
        self._last_save = time.monotonic()


def device_name(device: torch.device) -> str:
    """Return the name of a device: that of the GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
