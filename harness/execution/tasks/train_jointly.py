"""The training task of several networks that a coupling ties: all of them are trained, saved and stored at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.api.specs import CoupledMemberSpec, CoupledSpec, TrainSpec
from harness.api.task import Task
from harness.errors import Interrupted
from harness.execution.plugin_calls import make_coupling
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import first_point, make_trainer, stored_teacher
from harness.execution.tasks.training_log import TrainingLog
from harness.execution.tasks.training_parts import optimizer_state, parts_of, weights_part
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.networks.recomputation import recomputed
from harness.training.joint import JointTraining, OnOneBatch, Points, SideBySide, mean_record
from harness.training.mixture import AtMixtures
from harness.training.point import EpochRecord, Point
from harness.training.stepping import Stepping
from harness.training.trainer import Trainer


def train_jointly(task: Task, spec: TrainSpec, resources: TaskResources) -> None:
    """Train all members of a joint trajectory, and store their checkpoints as one object."""
    assert spec.coupled is not None
    run = JointTrainTaskRun(task, spec, spec.coupled, resources)
    run.finish(run.train())


class JointTrainTaskRun:
    """A joint training up to the end of epoch `until`, from its latest points in the store.

    The object has the parts `weights-0` to `weights-(M-1)`, with the optimizer state of each. If the members are trained at
    their mixtures, `weights-M` is the network of the mixture.
    """

    def __init__(self, task: Task, spec: TrainSpec, coupled: CoupledSpec, resources: TaskResources) -> None:
        self._task, self._spec, self._coupled, self._resources = task, spec, coupled, resources
        self._store, self._watch = resources.store, resources.watch
        self._log = TrainingLog(task, spec, resources)
        self._environment = resources.environment(spec.setting)
        self._steps_per_epoch = self._environment.recipe.steps_per_epoch(len(self._environment.train))
        self._coupling = make_coupling(resources.catalogue, coupled.coupling)
        networks = self._networks()
        self._training = self._make_training(networks)
        with self._watch("store"):
            self._starts = self._saved() or self._first_points(networks)

    def train(self) -> list[Point]:
        """Train from the latest points; return the points that were reached."""
        self._log.begin(self._starts[0].step / self._steps_per_epoch)
        context = self._resources.context
        return self._training.run(
            self._starts,
            self._spec.epoch,
            stopping=context.stopping,
            after_epoch=self._after_epoch,
            watch=self._watch,
            on_stepping=self._record_stepping,
            train=context.siblings.train,
        )

    def finish(self, ends: Sequence[Point]) -> None:
        """Store the checkpoints. If the training was stopped early, save its state and raise `Interrupted` instead."""
        if ends[0].step < self._spec.epoch * self._steps_per_epoch:
            self._save(ends)
            raise Interrupted
        for trainer, end in zip(self._training.trainers, ends[-len(self._training.trainers) :], strict=True):
            self._environment.check_stored(trainer.network, end.weights)
        parts = self._parts(ends)
        if self._coupling.mixes:
            for index in range(self._members):
                parts[weights_part(index)] = self._with_own_statistics(ends[index].weights)
        trajectory = self._spec.trajectory_key
        facts = {**self._facts(ends), "history": [record.to_json() for record in _mean_history(ends)]}
        with self._watch("store"):
            self._store.note_epoch(trajectory, self._spec.epoch, self._task.key)  # first, as for a training of one network
            self._resources.put(self._task, self._log.began, parts, facts)
            self._store.training_states.drop(trajectory, ends[0].step)

    @property
    def _members(self) -> int:
        return len(self._coupled.members)

    def _networks(self) -> list[Trainer]:
        """Return one trainer per member, each with a newly initialized network."""
        trainers = []
        for member in self._coupled.members:
            teacher = stored_teacher(member.teacher, self._environment, self._resources)
            recipe = options_from_json(Recipe, member.recipe)
            trainers.append(make_trainer(member.trajectory, self._environment, self._resources.catalogue, teacher, recipe))
        return trainers

    def _make_training(self, networks: Sequence[Trainer]) -> JointTraining:
        stream = self._coupled.stream
        if self._coupling.mixes:
            return AtMixtures(networks[0], len(networks), self._coupling, stream)
        if self._coupling.shares_batch:
            return OnOneBatch(networks, self._coupling, stream)
        return SideBySide(networks, self._coupling, stream)

    def _first_points(self, networks: Sequence[Trainer]) -> list[Point]:
        """Return the points at which the task starts: an earlier checkpoint of all, or where each member starts."""
        start = self._spec.start
        if start.object is not None:
            meta = self._store.meta(start.object)
            parts = {part: self._store.tensors(start.object, part) for part in meta["files"]}
            self._log.segments = list(meta.get("stepping", ()))
            return _points(start.epoch * self._steps_per_epoch, meta, parts)
        points = []
        for member, trainer in zip(self._coupled.members, networks, strict=True):
            points.append(self._first_point(member, trainer.network))
        return points

    def _first_point(self, member: CoupledMemberSpec, network: FlatNetwork) -> Point:
        return first_point(member.start, member.trajectory, network, self._store, self._steps_per_epoch)

    def _saved(self) -> list[Point] | None:
        """Return the points of the latest saved state after the task's start, or None."""
        first, last = self._spec.start.epoch * self._steps_per_epoch, self._spec.epoch * self._steps_per_epoch
        saved = self._resources.saved_state(self._spec.trajectory_key, range(first + 1, last + 1))
        if saved is None:
            return None
        self._log.segments = list(saved.meta.get("stepping", ()))
        return _points(saved.step, saved.meta, saved.parts)

    def _save(self, points: Sequence[Point]) -> None:
        meta = {"task": self._task.key, **self._facts(points)}
        with self._watch("store"):
            self._store.training_states.save(self._spec.trajectory_key, points[0].step, meta, self._parts(points))

    def _after_epoch(self, record: EpochRecord, points: Points) -> None:
        if self._log.report_epoch(record):
            self._save(points())
            self._log.note_save()

    def _record_stepping(self, stepping: Stepping) -> None:
        epoch = self._starts[0].step / self._steps_per_epoch
        self._log.record_stepping(epoch, stepping, self._environment.device)

    def _facts(self, points: Sequence[Point]) -> dict[str, Any]:
        return {"members": [_point_facts(point) for point in points], "stepping": self._log.segments}

    def _parts(self, points: Sequence[Point]) -> dict[str, StateDict]:
        parts: dict[str, StateDict] = {}
        for index, point in enumerate(points):
            parts |= parts_of(point, index)
        return parts

    def _with_own_statistics(self, state: StateDict) -> StateDict:
        """Return a network's state with running statistics at its own weights, which were never visited."""
        return recomputed(self._environment.network(), state, self._environment.train_images)


def _point_facts(point: Point) -> dict[str, Any]:
    """Return what a point has beside tensors, as JSON."""
    return {
        "optimizer_steps": point.optimizer_steps,
        "loss_sum": point.loss_sum.hex(),
        "correct": point.correct,
        "history": [record.to_json() for record in point.history],
    }


def _points(step: int, meta: Mapping[str, Any], parts: Mapping[str, StateDict]) -> list[Point]:
    """Return the points that an object or a saved state holds."""
    points = []
    for index, facts in enumerate(meta["members"]):
        part = weights_part(index)
        history = tuple(EpochRecord(**record) for record in facts["history"])
        sums = float.fromhex(facts["loss_sum"]), facts["correct"]
        points.append(Point(step, parts[part], optimizer_state(parts, part), facts["optimizer_steps"], *sums, history))
    return points


def _mean_history(points: Sequence[Point]) -> list[EpochRecord]:
    """Return the members' mean records per epoch, of those that have records."""
    histories = [point.history for point in points if point.history]
    return [mean_record(records) for records in zip(*histories, strict=True)]
