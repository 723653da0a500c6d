"""One training task against the store: where it starts, what is kept on the way, what is put at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness import streams
from harness.api.interfaces import Objective
from harness.api.task import Task
from harness.errors import DamagedObject, Interrupted
from harness.execution.context import RunContext
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import architecture_for, build_module, plugin_label, watch_loss
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.registry.catalogue import Catalogue
from harness.store import Store
from harness.telemetry.provenance import provenance
from harness.telemetry.stopwatch import Stopwatch
from harness.training.loop import EpochRecord, Point, Rules, Trainer, record_json
from harness.training.schedule import learning_rate


class TrainTaskRun:
    """A training from `start`, as far as the store has got, up to the end of epoch `until`, by `trainer`."""

    def __init__(
        self,
        task: Task,
        room: TaskEnvironment,
        store: Store,
        context: RunContext,
        watch: Stopwatch,
        save_every: float = 60.0,
    ) -> None:
        self.task, self._room, self._store, self._catalogue, self._tell = task, room, store, context.catalogue, context.emit
        self._data = context.data
        self._watch, self._save_every, self._began = watch, save_every, time.monotonic()
        spec = task.spec
        trajectory, self._key, self.until = spec["trajectory"], spec["trajectory_key"], spec["epoch"]
        objective, _ = make_objective(self._catalogue, trajectory["objective"])
        teacher = self._teacher()
        self._steps = room.recipe.steps_per_epoch(len(room.train))
        rate = learning_rate(room.recipe, self._steps, trajectory["constant_learning_rate"], trajectory["restart_epoch"])
        rules = Rules(room.recipe, objective, rate, tuple(trajectory["order"]))
        network = room.network(streams.key(*trajectory["init"]) if trajectory["init"] else 0, gradient=True)
        with watch("store"):
            self.start = self._kept() or self._from(network)
        self.trainer = Trainer(network, room.augmenter, room.labels, rules, teacher)

    def begin(self) -> None:
        """Tell that it goes on from its start."""
        self._emit("train_started", epoch=self.start.step / self._steps, until=self.until, threads=torch.get_num_threads())
        self._last_save = time.monotonic()

    def after_epoch(self, record: EpochRecord, point: Callable[[], Point]) -> None:
        """Tell of an epoch, and keep the state from time to time."""
        self._emit("epoch", until=self.until, **record_json(record))
        if record.epoch < self.until and time.monotonic() - self._last_save > self._save_every:
            self._keep(point())
            self._last_save = time.monotonic()

    def arrive(self, end: Point) -> None:
        """Put the checkpoint, or keep the state and raise `Interrupted` if the training has not got so far."""
        if end.step < self.until * self._steps:
            self._keep(end)
            raise Interrupted
        self._room.check_stored(self.trainer.network, end.weights)
        with self._watch("store"):
            seconds = round(time.monotonic() - self._began, 3)
            meta = {"kind": "train", "spec": self.task.spec, "seconds": seconds, "provenance": provenance()}
            history = [record_json(record) for record in end.history]
            facts = {"optimizer_steps": end.optimizer_steps, "history": history}
            self._store.note_epoch(self._key, self.until, self.task.key)  # before the object: a crash between loses no note
            self._store.put(self.task.key, {**meta, **facts}, _parts(end))
            self._store.drop_training_states(self._key, end.step)

    def _emit(self, event: str, **facts: Any) -> None:
        self._tell({"event": event, "task": self.task.key, "kind": "train", "time": time.time(), **facts})

    def _teacher(self) -> FlatNetwork | None:
        """Return the teacher's network with its weights."""
        teacher = self.task.spec["teacher"]
        if teacher is None:
            return None
        network = teacher_network(self._catalogue, teacher["setting"], self._room, self._data)
        with self._watch("store"):
            network.load(self._store.tensors(teacher["object"], teacher["part"]))
        return network

    def _from(self, network: FlatNetwork) -> Point:
        """Return the point a training starts from: initialization, an earlier checkpoint, or the one it was forked at."""
        start = self.task.spec["from"]
        if start["object"] is None:
            return Point(0, network.state())
        weights = self._store.tensors(start["object"], start["part"])
        if not start["own"] and self.task.spec["trajectory"]["fresh_optimizer"]:
            return Point(start["epoch"] * self._steps, weights)
        meta = self._store.meta(start["object"])
        names = [part for part in meta["files"] if part.startswith("optimizer-")]
        memory = {name.removeprefix("optimizer-"): self._store.tensors(start["object"], name) for name in names}
        history = tuple(EpochRecord(**record) for record in meta.get("history", ())) if start["own"] else ()
        return Point(start["epoch"] * self._steps, weights, memory, meta["optimizer_steps"], history=history)

    def _kept(self) -> Point | None:
        """Return the latest state kept of a training, if it lies ahead of where the task would start and is whole."""
        for step in self._store.saved_steps(self._key):
            if not self.task.spec["from"]["epoch"] * self._steps < step <= self.until * self._steps:
                continue
            try:
                meta, parts = self._store.load_training_state(self._key, step)
            except DamagedObject as error:
                self._set_aside(self._store.quarantine_training_state(self._key, step), f"step {step}: {error.reason}")
                continue
            memory = {name.removeprefix("optimizer-"): s for name, s in parts.items() if name.startswith("optimizer-")}
            history = tuple(EpochRecord(**record) for record in meta["history"])
            sums = float.fromhex(meta["loss_sum"]), meta["correct"]
            return Point(step, parts["weights"], memory, meta["optimizer_steps"], *sums, history)
        return None

    def _set_aside(self, where: Path, reason: str) -> None:
        message = str(DamagedObject(self._key, reason))
        event = {"event": "set_aside", "time": time.time(), "key": self._key, "path": str(where), "message": message}
        self._tell(event)

    def _keep(self, point: Point) -> None:
        meta = {
            "task": self.task.key,
            "optimizer_steps": point.optimizer_steps,
            "loss_sum": point.loss_sum.hex(),
            "correct": point.correct,
            "history": [record_json(record) for record in point.history],
        }
        with self._watch("store"):
            self._store.save_training_state(self._key, point.step, meta, _parts(point))


def make_objective(catalogue: Catalogue, identity: dict[str, Any]) -> tuple[Objective, str]:
    """Return the objective of a trajectory's spec, and how messages call it."""
    own = {name: value for name, value in identity.items() if name != "teacher"}
    objective: Objective = catalogue.from_identity("objective", own)
    label = plugin_label(catalogue, "objective", objective)
    return watch_loss(objective, label), label


def teacher_network(catalogue: Catalogue, setting: dict[str, Any], room: TaskEnvironment, data: Path) -> FlatNetwork:
    """Return a network of the teacher's architecture in evaluation mode, freshly initialized. `data` is the data root."""
    architecture = architecture_for(catalogue, setting["architecture"], data)
    who = plugin_label(catalogue, "architecture", architecture)
    network = FlatNetwork(build_module(architecture, who, room.dataset, 0), room.device)
    network.module.eval()
    return network


def _parts(point: Point) -> dict[str, StateDict]:
    return {"weights": point.weights, **{f"optimizer-{name}": state for name, state in point.memory.items()}}
