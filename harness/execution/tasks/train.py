"""A training task: load its start from the store, save its state during training, store its checkpoint at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harness import streams
from harness.api.schedules import schedule_from_json
from harness.api.specs import SettingSpec, TrainSpec
from harness.api.task import Task
from harness.errors import Interrupted, TaskFailed
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import build_module, make_architecture, make_objective, plugin_label
from harness.execution.tasks.resources import TaskResources
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.registry.catalogue import Catalogue
from harness.telemetry.events import EpochEnded, TrainingStarted, TrainingStepped
from harness.training.loop import EpochRecord, Point, Rules, Trainer
from harness.training.schedule import learning_rate
from harness.training.stepping import Stepping

_OPTIMIZER = "optimizer-"  # prefix of the names of parts with optimizer state


class TrainTaskRun:
    """A training from `start` to the end of epoch `until`. `start` is the latest point of the trajectory in the store."""

    def __init__(self, task: Task, spec: TrainSpec, resources: TaskResources) -> None:
        self.task = task
        self.until = spec.epoch
        self._spec = spec
        self._resources = resources
        self._store = resources.store
        self._watch = resources.watch
        self._began = self._last_save = time.monotonic()
        self._environment = resources.environment(spec.setting)
        self._steps_per_epoch = self._environment.recipe.steps_per_epoch(len(self._environment.train))
        self._segments: list[Any] = []  # JSON: how the steps were taken, by each process that continued the training
        self.trainer = make_trainer(spec, self._environment, resources.catalogue, self._teacher())
        with self._watch("store"):
            self.start = self._saved_state() or self._first_point(self.trainer.network)

    def begin(self) -> None:
        """Report that the training begins or is resumed."""
        self._last_save = time.monotonic()
        self._resources.context.emit(
            TrainingStarted(
                task=self.task.key,
                kind=self.task.kind,
                epoch=self.start.step / self._steps_per_epoch,
                until=self.until,
                threads=torch.get_num_threads(),
            )
        )

    def record_stepping(self, stepping: Stepping) -> None:
        """Report how the steps are taken from the start on, and keep it for the stored object."""
        facts = {**asdict(stepping), "device": device_name(self._environment.device)}
        self._segments.append({"epoch": self.start.step / self._steps_per_epoch, **facts, "torch": torch.__version__})
        self._resources.context.emit(TrainingStepped(task=self.task.key, kind=self.task.kind, **facts))

    def after_epoch(self, record: EpochRecord, point: Callable[[], Point]) -> None:
        """Report an epoch; save the training's state if the last save was too long ago."""
        self._resources.context.emit(
            EpochEnded(
                task=self.task.key,
                kind=self.task.kind,
                epoch=record.epoch,
                until=self.until,
                loss=record.loss,
                accuracy=record.accuracy,
                learning_rate=record.learning_rate,
                seconds=round(record.seconds, 3),
            )
        )
        since_save = time.monotonic() - self._last_save
        if record.epoch < self.until and since_save > self._resources.context.save_every:
            self._save(point())
            self._last_save = time.monotonic()

    def finish(self, end: Point) -> None:
        """Store the checkpoint. If the training was stopped early, save its state and raise `Interrupted` instead."""
        if end.step < self.until * self._steps_per_epoch:
            self._save(end)
            raise Interrupted
        self._environment.check_stored(self.trainer.network, end.weights)
        trajectory = self._spec.trajectory_key
        history = [record.to_json() for record in end.history]
        facts = {"optimizer_steps": end.optimizer_steps, "history": history, "stepping": self._segments}
        with self._watch("store"):
            self._store.note_epoch(
                trajectory, self.until, self.task.key
            )  # first, so that a crash never leaves the object without a note
            self._resources.put(self.task, self._began, _parts(end), facts)
            self._store.training_states.drop(trajectory, end.step)

    def _teacher(self) -> FlatNetwork | None:
        """Return the teacher's network with its weights."""
        teacher = self._spec.teacher
        if teacher is None:
            return None
        resources = self._resources
        network = teacher_network(resources.catalogue, teacher.setting, self._environment, resources.context.data)
        with self._watch("store"):
            network.load(self._store.tensors(teacher.object, teacher.part))
        return network

    def _first_point(self, network: FlatNetwork) -> Point:
        """Return the point at which the task starts: initialization, an earlier checkpoint, or the fork's checkpoint."""
        start = self._spec.start
        if start.object is None or start.part is None:
            return Point(0, network.state())
        step = start.epoch * self._steps_per_epoch
        weights = self._store.tensors(start.object, start.part)
        if not start.own and self._spec.trajectory.fresh_optimizer:
            return Point(step, weights)
        meta = self._store.meta(start.object)
        parts = [part for part in meta["files"] if part.startswith(_OPTIMIZER)]
        memory = _optimizer_state({part: self._store.tensors(start.object, part) for part in parts})
        history: tuple[EpochRecord, ...] = ()
        if start.own:
            history = tuple(EpochRecord(**record) for record in meta.get("history", ()))
            self._segments = list(meta.get("stepping", ()))
        return Point(step, weights, memory, meta["optimizer_steps"], history=history)

    def _saved_state(self) -> Point | None:
        """Return the latest saved state of the training after the task's start, or None."""
        first, last = self._spec.start.epoch * self._steps_per_epoch, self.until * self._steps_per_epoch
        saved = self._resources.saved_state(self._spec.trajectory_key, range(first + 1, last + 1))
        if saved is None:
            return None
        meta = saved.meta
        self._segments = list(meta.get("stepping", ()))
        return Point(
            saved.step,
            saved.parts["weights"],
            _optimizer_state(saved.parts),
            meta["optimizer_steps"],
            float.fromhex(meta["loss_sum"]),
            meta["correct"],
            tuple(EpochRecord(**record) for record in meta["history"]),
        )

    def _save(self, point: Point) -> None:
        meta = {
            "task": self.task.key,
            "optimizer_steps": point.optimizer_steps,
            "loss_sum": point.loss_sum.hex(),
            "correct": point.correct,
            "history": [record.to_json() for record in point.history],
            "stepping": self._segments,
        }
        with self._watch("store"):
            self._store.training_states.save(self._spec.trajectory_key, point.step, meta, _parts(point))


def make_trainer(spec: TrainSpec, environment: TaskEnvironment, catalogue: Catalogue, teacher: FlatNetwork | None) -> Trainer:
    """Return the trainer of a training, with a newly initialized network."""
    trajectory, recipe = spec.trajectory, environment.recipe
    objective, _ = make_objective(catalogue, trajectory.objective)
    schedule = None if trajectory.schedule is None else schedule_from_json(trajectory.schedule)
    steps_per_epoch = recipe.steps_per_epoch(len(environment.train))
    rate = learning_rate(recipe, steps_per_epoch, schedule, trajectory.schedule_start)
    rules = Rules(recipe, objective, rate, trajectory.order)
    stream = 0 if trajectory.init is None else streams.key(*trajectory.init)
    network = environment.network(stream, gradient=True)
    return Trainer(network, environment.augmenter, environment.labels, rules, teacher)


def train(task: Task, spec: TrainSpec, resources: TaskResources) -> None:
    """Train one network and store its checkpoint."""
    run = TrainTaskRun(task, spec, resources)
    (end,) = train_side_by_side([run], resources)
    if isinstance(end, TaskFailed):
        raise end
    run.finish(end)


def train_side_by_side(runs: Sequence[TrainTaskRun], resources: TaskResources) -> list[Point | TaskFailed]:
    """Train siblings that start from the same step; return the point that each reached, or why it failed."""
    for run in runs:
        run.begin()

    def record_stepping(stepping: Stepping) -> None:
        for run in runs:
            run.record_stepping(stepping)

    return resources.context.siblings.train(
        [run.trainer for run in runs],
        [run.start for run in runs],
        runs[0].until,
        stopping=resources.context.stopping,
        after_epoch=[run.after_epoch for run in runs],
        watch=resources.watch,
        on_stepping=record_stepping,
    )


def teacher_network(catalogue: Catalogue, setting: SettingSpec, environment: TaskEnvironment, data: Path) -> FlatNetwork:
    """Return a newly initialized network of the teacher's architecture, in evaluation mode. `data` is the data root."""
    architecture = make_architecture(catalogue, setting.architecture, data)
    label = plugin_label(catalogue, "architecture", architecture)
    network = FlatNetwork(build_module(architecture, label, environment.dataset, 0), environment.device)
    network.module.eval()
    return network


def device_name(device: torch.device) -> str:
    """Return the name of a device: that of the GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _optimizer_state(parts: Mapping[str, StateDict]) -> dict[str, StateDict]:
    """Return the parts with optimizer state, by name without the prefix."""
    state: dict[str, StateDict] = {}
    for part, tensors in parts.items():
        if part.startswith(_OPTIMIZER):
            state[part.removeprefix(_OPTIMIZER)] = tensors
    return state


def _parts(point: Point) -> dict[str, StateDict]:
    """Return a point's weights and optimizer state as parts of an object."""
    parts = {"weights": point.weights}
    for name, state in point.memory.items():
        parts[_OPTIMIZER + name] = state
    return parts
