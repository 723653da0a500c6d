"""A training task: load its start from the store, save its state during training, store its checkpoint at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness import streams
from harness.api.moments import Moments
from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.api.schedules import schedule_from_json
from harness.api.specs import SettingSpec, TeacherSpec, TrainingStart, TrainSpec, TrajectorySpec
from harness.api.task import Task
from harness.errors import Interrupted, TaskFailed
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import build_module, make_architecture, make_objective, plugin_label
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.training_log import TrainingLog
from harness.execution.tasks.training_parts import optimizer_parts, optimizer_state, optimizer_steps, parts_of, weights_part
from harness.networks.flat_network import FlatNetwork
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.training.moments import moment_parts
from harness.training.point import EpochRecord, Point
from harness.training.schedule import learning_rate
from harness.training.stepping import Stepping
from harness.training.trainer import Rules, Trainer


class TrainTaskRun:
    """A training from `start` to the end of epoch `until`. `start` is the latest point of the trajectory in the store."""

    def __init__(self, task: Task, spec: TrainSpec, resources: TaskResources) -> None:
        self.task = task
        self.until = spec.epoch
        self._spec = spec
        self._resources = resources
        self._store = resources.store
        self._watch = resources.watch
        self._log = TrainingLog(task, spec, resources)
        self._environment = resources.environment(spec.setting)
        self._steps_per_epoch = self._environment.recipe.steps_per_epoch(len(self._environment.train))
        teacher = stored_teacher(spec.teacher, self._environment, resources)
        self.trainer = make_trainer(spec.trajectory, self._environment, resources.catalogue, teacher)
        with self._watch("store"):
            self.start = self._saved_state() or self._first_point(self.trainer.network)

    def begin(self) -> None:
        """Report that the training begins or is resumed."""
        self._log.begin(self.start.step / self._steps_per_epoch)

    def record_stepping(self, stepping: Stepping) -> None:
        """Report how the steps are taken from the start on, and keep it for the stored object."""
        self._log.record_stepping(self.start.step / self._steps_per_epoch, stepping, self._environment.device)

    def after_epoch(self, record: EpochRecord, point: Callable[[], Point]) -> None:
        """Report an epoch; save the training's state if the last save was too long ago."""
        if self._log.report_epoch(record):
            self._save(point())
            self._log.note_save()

    def finish(self, end: Point) -> None:
        """Store the checkpoint. If the training was stopped early, save its state and raise `Interrupted` instead."""
        if end.step < self.until * self._steps_per_epoch:
            self._save(end)
            raise Interrupted
        self._environment.check_stored(self.trainer.network, end.weights)
        trajectory = self._spec.trajectory_key
        history = [record.to_json() for record in end.history]
        facts = {"optimizer_steps": end.optimizer_steps, "history": history, "stepping": self._log.segments}
        if end.collected:
            facts["collected"] = end.collected
        with self._watch("store"):
            self._store.note_epoch(
                trajectory, self.until, self.task.key
            )  # first, so that a crash never leaves the object without a note
            self._resources.put(self.task, self._log.began, parts_of(end), facts)
            self._store.training_states.drop(trajectory, end.step)

    def _first_point(self, network: FlatNetwork) -> Point:
        """Return the point at which the task starts: initialization, an earlier checkpoint, or the fork's checkpoint."""
        start = self._spec.start
        point = first_point(start, self._spec.trajectory, network, self._store, self._steps_per_epoch)
        if start.object is None or not start.own:
            return point
        meta = self._store.meta(start.object)
        self._log.segments = list(meta.get("stepping", ()))
        history = tuple(EpochRecord(**record) for record in meta.get("history", ()))
        moments = {part: self._store.tensors(start.object, part) for part in moment_parts(meta["files"])}
        return replace(point, history=history, moments=moments, collected=meta.get("collected", 0))

    def _saved_state(self) -> Point | None:
        """Return the latest saved state of the training after the task's start, or None."""
        first, last = self._spec.start.epoch * self._steps_per_epoch, self.until * self._steps_per_epoch
        saved = self._resources.saved_state(self._spec.trajectory_key, range(first + 1, last + 1))
        if saved is None:
            return None
        meta = saved.meta
        self._log.segments = list(meta.get("stepping", ()))
        part = weights_part()
        return Point(
            saved.step,
            saved.parts[part],
            optimizer_state(saved.parts, part),
            meta["optimizer_steps"],
            float.fromhex(meta["loss_sum"]),
            meta["correct"],
            tuple(EpochRecord(**record) for record in meta["history"]),
            {part: saved.parts[part] for part in moment_parts(saved.parts)},
            meta.get("collected", 0),
        )

    def _save(self, point: Point) -> None:
        meta = {
            "task": self.task.key,
            "optimizer_steps": point.optimizer_steps,
            "loss_sum": point.loss_sum.hex(),
            "correct": point.correct,
            "history": [record.to_json() for record in point.history],
            "stepping": self._log.segments,
            "collected": point.collected,
        }
        with self._watch("store"):
            self._store.training_states.save(self._spec.trajectory_key, point.step, meta, parts_of(point))


def first_point(
    start: TrainingStart, trajectory: TrajectorySpec, network: FlatNetwork, store: Store, steps_per_epoch: int
) -> Point:
    """Return the point at stored weights, with the optimizer state that belongs to them, or at a network's initialization.

    A fork with a fresh optimizer gets no optimizer state. There is no history.
    """
    if start.object is None or start.part is None:
        return Point(0, network.state())
    step = start.epoch * steps_per_epoch
    weights = store.tensors(start.object, start.part)
    if not start.own and trajectory.fresh_optimizer:
        return Point(step, weights)
    meta = store.meta(start.object)
    stored = {name: store.tensors(start.object, name) for name in optimizer_parts(meta["files"], start.part)}
    return Point(step, weights, optimizer_state(stored, start.part), optimizer_steps(meta, start.part))


def stored_teacher(teacher: TeacherSpec | None, environment: TaskEnvironment, resources: TaskResources) -> FlatNetwork | None:
    """Return a teacher's network with its weights."""
    if teacher is None:
        return None
    network = teacher_network(resources.catalogue, teacher.setting, environment, resources.context.data)
    with resources.watch("store"):
        network.load(resources.store.tensors(teacher.object, teacher.part))
    return network


def make_trainer(
    trajectory: TrajectorySpec,
    environment: TaskEnvironment,
    catalogue: Catalogue,
    teacher: FlatNetwork | None,
    recipe: Recipe | None = None,
) -> Trainer:
    """Return the trainer of a training, with a newly initialized network. `recipe` is the environment's by default."""
    recipe = recipe or environment.recipe
    objective, _ = make_objective(catalogue, trajectory.objective)
    schedule = None if trajectory.schedule is None else schedule_from_json(trajectory.schedule)
    steps_per_epoch = recipe.steps_per_epoch(len(environment.train))
    rate = learning_rate(recipe, steps_per_epoch, schedule, trajectory.schedule_start)
    moments = None if trajectory.moments is None else options_from_json(Moments, trajectory.moments)
    rules = Rules(recipe, objective, rate, trajectory.order, moments)
    stream = 0 if trajectory.init is None else streams.key(*trajectory.init)
    network = environment.network(stream, gradient=True)
    augmenter = environment.augmenter.varied(recipe.augmentation)
    return Trainer(network, augmenter, environment.labels, rules, teacher)


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
