"""Does one task, or one group of siblings, against the store: what every engine runs, wherever it runs it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import streams
from harness.blame import blamed, out_of_memory, told
from harness.catalogue import Catalogue
from harness.ensemble import EvaluatedEnsemble
from harness.errors import (
    DamagedObject,
    DeviceError,
    HarnessError,
    Interrupted,
    PluginFailed,
    StoreError,
    TaskFailed,
    UserError,
)
from harness.evaluation import Between, Images, predict
from harness.guard import (
    MAX_VALUES,
    Surroundings,
    WatchedBetween,
    built,
    called,
    check_split,
    check_states,
    check_values,
    watch_loss,
)
from harness.interfaces import Architecture, Dataset, Derivation, MetricValue, Objective, Session, Split, Workbench
from harness.provenance import provenance
from harness.recipe import Recipe
from harness.store import Store
from harness.task import Outcome, Task, canonical_json
from harness.training.augmentation import Augmenter
from harness.training.loop import EpochRecord, Point, Rules, Trainer, record_json
from harness.training.schedule import learning_rate
from harness.weights import FlatNetwork, State

SAVE_EVERY = 60.0
"""Seconds after which the state of a training is saved at the next end of an epoch."""


class Room:
    """A setting made real on a device: data, networks. Kept by the worker from task to task."""

    def __init__(self, catalogue: Catalogue, spec: dict[str, Any], data: Path, device: torch.device) -> None:
        self.device = device
        self.recipe = Recipe.model_validate_json(canonical_json(spec["recipe"]))
        identity = {k: v for k, v in spec["dataset"].items() if k != "fingerprint"}
        self.dataset: Dataset = catalogue.from_identity("dataset", identity)
        if self.dataset.fingerprint != spec["dataset"]["fingerprint"]:
            raise UserError(f"data set '{self.dataset.name}' is not the one the task was made for: its fingerprint differs")
        self.architecture: Architecture = catalogue.from_identity("architecture", spec["architecture"])
        who = called(catalogue, "dataset", self.dataset)
        with blamed(who, "load"):
            self.train, self.test = self.dataset.load(data)
        for name, split in (("training", self.train), ("test", self.test)):
            check_split(f"{who}: load gave a {name} split", split, self.dataset)
        self._builder = called(catalogue, "architecture", self.architecture)
        self.labels = self.train.labels.to(device)
        self.normalisation = self.recipe.normalisation or self.dataset.normalisation
        mean, std = self.normalisation
        self.augmenter = Augmenter(self.train.images, self.recipe.augmentation, mean, std, device)
        self.train_images = Images(self.train, self.normalisation, device)
        self.test_images = Images(self.test, self.normalisation, device)

    def module(self, stream: int = 0) -> torch.nn.Module:
        """Return a freshly initialised network."""
        return built(self.architecture, self._builder, self.dataset, stream)

    def network(self, stream: int = 0, *, gradient: bool = False) -> FlatNetwork:
        """Return a freshly initialised network on the device, in one vector."""
        return FlatNetwork(self.module(stream), self.device, gradient=gradient)


class OutOfMemory(Exception):  # never leaves this room
    """Memory did not suffice for a group of tasks done at once."""


class Worker:
    """Does tasks one after another. Data sets stay loaded between tasks of one setting."""

    def __init__(self, session: Session) -> None:
        self.session, self.catalogue = session, session.catalogue
        self.store = Store(session.store)
        self.device = torch.device(resolve_device(session.device))
        self._room: tuple[str, Room] | None = None
        self._evaluated: tuple[str, EvaluatedEnsemble] | None = None
        self._found = Surroundings(session.threads)

    def run(self, group: Sequence[Task]) -> list[Outcome]:
        """Do the tasks of a group; return how each ended. Raise `Interrupted` when asked to stop, and `StoreError` when the
        store takes no more."""
        return [outcome for task in group for outcome in self.fitted([task], self._one_by_one)]

    def fitted(self, group: Sequence[Task], do: Callable[[Sequence[Task], bool], list[Outcome]]) -> list[Outcome]:
        """Do a group at once; where memory does not suffice, by halves, down to one task, and that once more with all else let
        go. `do` raises `OutOfMemory`, unless told that this is the last try. What a task computes does not depend on it."""
        with contextlib.suppress(OutOfMemory):
            return do(group, False)
        self._let_go()
        again = "alone, once more" if len(group) == 1 else f"{len(group)} tasks in halves"
        self._emit("out_of_memory", group[0], message=f"out of memory; tried {again}")
        if len(group) == 1:
            return do(group, True)
        half = len(group) // 2
        return [*self.fitted(group[:half], do), *self.fitted(group[half:], do)]

    def _one_by_one(self, group: Sequence[Task], last: bool) -> list[Outcome]:
        return [self._attempt(task, self._do, last=last) for task in group]

    def _let_go(self) -> None:
        """Free all memory that is not needed for what comes next."""
        self._room = self._evaluated = None
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _attempt(self, task: Task, do: Callable[[Task], None], *, last: bool = True) -> Outcome:
        """Turn whatever happens into an outcome; a plugin may raise anything. Raise `OutOfMemory` unless it is the last try."""
        self._found.restore()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no output of a command
                do(task)
            return Outcome(task.key, "done")
        except (Interrupted, KeyboardInterrupt, StoreError):
            raise
        except DamagedObject as error:
            return Outcome(task.key, "damaged", str(error), damaged=error.key)
        except BaseException as error:
            if out_of_memory(error) and not last:
                raise OutOfMemory from None
            return self._failed(task, error)
        finally:
            self._found.restore()

    def _failed(self, task: Task, error: BaseException) -> Outcome:
        """Keep a failure in the store, and say it in a line."""
        known = isinstance(error, HarnessError) and not isinstance(error, PluginFailed)
        message = str(error) if isinstance(error, HarnessError) else f"{_doing(task)}: {told(error)}"
        details = "" if known else "".join(traceback.format_exception(error))
        facts = {"message": message, "traceback": details, "time": time.time(), "spec": task.spec, "provenance": provenance()}
        self.store.record_failure(task.key, facts)
        return Outcome(task.key, "failed", message, traceback=details)

    def _do(self, task: Task) -> None:
        """Do one task under its lease, unless it is done; wait while another run has it in work."""
        told = False
        while not self.store.has(task.key):
            if self.session.stopping():
                raise Interrupted
            with self.store.lease(task.spec.get("trajectory_key", task.key)) as mine:
                if mine:
                    if not self.store.has(task.key):
                        self._emit("task_started", task)
                        if self.store.present(task.key):
                            self._set_aside(self.store.set_aside(task.key), task.key, "it is not whole")
                        getattr(self, f"_{task.kind}")(task, time.monotonic())
                    return
            if not told:
                self._emit("waiting", task, message="another run is working on it")
                told = True
            time.sleep(0.2)

    def _emit(self, event: str, task: Task, **facts: Any) -> None:
        self.session.emit({"event": event, "task": task.key, "kind": task.kind, "time": time.time(), **facts})

    def _set_aside(self, where: Path, key: str, reason: str) -> None:
        message = str(DamagedObject(key, reason))
        self.session.emit({"event": "set_aside", "time": time.time(), "key": key, "path": str(where), "message": message})

    def _enter(self, setting: dict[str, Any]) -> Room:
        name = canonical_json(setting)
        if self._room is None or self._room[0] != name:
            self._room = None  # let go of the old one's memory first
            self._room = name, Room(self.catalogue, setting, self.session.data, self.device)
        return self._room[1]

    def _put(self, task: Task, began: float, parts: dict[str, State], **facts: Any) -> None:
        meta = {"kind": task.kind, "spec": task.spec, "seconds": round(time.monotonic() - began, 3), "provenance": provenance()}
        self.store.put(task.key, {**meta, **facts}, parts)

    # -- training

    def _train(self, task: Task, began: float) -> None:
        spec = task.spec
        room = self._enter(spec["setting"])
        trajectory, key = spec["trajectory"], spec["trajectory_key"]
        objective, teacher = self._objective(spec)
        steps = room.recipe.steps_per_epoch(len(room.train))
        rate = learning_rate(room.recipe, steps, trajectory["held"], trajectory["restarted_at"])
        rules = Rules(room.recipe, objective, rate, tuple(trajectory["order"]))
        stream = streams.key(*trajectory["init"]) if trajectory["init"] else 0
        network = room.network(stream, gradient=True)
        start = self._kept(key, spec, steps) or self._start(spec, network, steps)
        trainer = Trainer(network, room.augmenter, room.labels, rules, teacher)
        self._emit("train_started", task, epoch=start.step / steps, until=spec["epoch"], threads=torch.get_num_threads())
        last_save = time.monotonic()

        def after_epoch(record: EpochRecord, point: Callable[[], Point]) -> None:
            nonlocal last_save
            self._emit("epoch", task, until=spec["epoch"], **record_json(record))
            if record.epoch < spec["epoch"] and time.monotonic() - last_save > SAVE_EVERY:
                self._keep(task, point())
                last_save = time.monotonic()

        end = trainer.run(start, spec["epoch"], stopping=self.session.stopping, after_epoch=after_epoch)
        if end.step < spec["epoch"] * steps:
            self._keep(task, end)
            raise Interrupted
        parts = {"weights": end.weights, **{f"optimizer-{name}": state for name, state in end.memory.items()}}
        history = [record_json(record) for record in end.history]
        self.store.note_epoch(key, spec["epoch"], task.key)  # before the object: a crash between them loses no note
        self._put(task, began, parts, optimizer_steps=end.optimizer_steps, history=history)
        self.store.drop_progress(key, end.step)

    def _objective(self, spec: dict[str, Any]) -> tuple[Objective, FlatNetwork | None]:
        """Return the objective and the teacher's network, in evaluation mode."""
        identity = {k: v for k, v in spec["trajectory"]["objective"].items() if k != "teacher"}
        named: Objective = self.catalogue.from_identity("objective", identity)
        objective = watch_loss(named, called(self.catalogue, "objective", named))
        teacher = spec["teacher"]
        if teacher is None:
            return objective, None
        room = self._enter(spec["setting"])
        architecture: Architecture = self.catalogue.from_identity("architecture", teacher["setting"]["architecture"])
        module = built(architecture, called(self.catalogue, "architecture", architecture), room.dataset, 0)
        network = FlatNetwork(module, self.device)
        network.load(self.store.tensors(teacher["object"], teacher["part"]))
        network.module.eval()
        return objective, network

    def _start(self, spec: dict[str, Any], network: FlatNetwork, steps: int) -> Point:
        """Return the point a training starts from: initialisation, an earlier checkpoint, or the one it was forked at."""
        start = spec["from"]
        if start["object"] is None:
            return Point(0, network.state())
        weights = self.store.tensors(start["object"], start["part"])
        if not start["own"] and spec["trajectory"]["fresh_optimizer"]:
            return Point(start["epoch"] * steps, weights)
        meta = self.store.meta(start["object"])
        names = [part for part in meta["files"] if part.startswith("optimizer-")]
        memory = {name.removeprefix("optimizer-"): self.store.tensors(start["object"], name) for name in names}
        history = tuple(EpochRecord(**record) for record in meta.get("history", ())) if start["own"] else ()
        return Point(start["epoch"] * steps, weights, memory, meta["optimizer_steps"], history=history)

    def _kept(self, trajectory: str, spec: dict[str, Any], steps: int) -> Point | None:
        """Return the latest state kept of a training, if it lies ahead of where the task would start and is whole."""
        for step in self.store.progress(trajectory):
            if not spec["from"]["epoch"] * steps < step <= spec["epoch"] * steps:
                continue
            try:
                meta, parts = self.store.load_progress(trajectory, step)
            except DamagedObject as error:
                self._set_aside(self.store.set_progress_aside(trajectory, step), trajectory, f"step {step}: {error.reason}")
                continue
            memory = {name.removeprefix("optimizer-"): s for name, s in parts.items() if name.startswith("optimizer-")}
            history = tuple(EpochRecord(**record) for record in meta["history"])
            weights = parts["weights"]
            return Point(
                step, weights, memory, meta["optimizer_steps"], float.fromhex(meta["loss_sum"]), meta["correct"], history
            )
        return None

    def _keep(self, task: Task, point: Point) -> None:
        meta = {
            "task": task.key,
            "optimizer_steps": point.optimizer_steps,
            "loss_sum": point.loss_sum.hex(),
            "correct": point.correct,
            "history": [record_json(record) for record in point.history],
        }
        parts = {"weights": point.weights, **{f"optimizer-{name}": state for name, state in point.memory.items()}}
        self.store.save_progress(task.spec["trajectory_key"], point.step, meta, parts)

    # -- deriving, predicting, measuring

    def _derive(self, task: Task, began: float) -> None:
        room = self._enter(task.spec["setting"])
        derivation: Derivation = self.catalogue.from_identity("derivation", task.spec["derivation"])
        parents = [self.store.tensors(where["object"], where["part"]) for where in task.spec["parent_locations"]]
        normalise = partial(_normalise, normalisation=room.normalisation, device=self.device)
        stream = streams.key(*task.spec["stream"])
        place = Workbench(room.module, room.train, room.test, normalise, self.device, stream)
        who = called(self.catalogue, "derivation", derivation)
        with blamed(who, "derive"):
            given, facts = derivation.derive(parents, place)
            states, facts = [dict(state) for state in given], dict(facts)
            canonical_json(facts)
        check_states(f"{who}: derive gave", states, derivation.outputs, parents[0])
        self._put(task, began, {f"weights-{i}": state for i, state in enumerate(states)}, facts=facts)

    def _predict(self, task: Task, began: float) -> None:
        room = self._enter(task.spec["setting"])
        network = room.network()
        network.load(self.store.tensors(task.spec["location"]["object"], task.spec["location"]["part"]))
        logits = predict(network, room.test_images).cpu()
        if logits.shape != (len(room.test), room.dataset.classes):
            wanted = (len(room.test), room.dataset.classes)
            raise TaskFailed(f"the network's outputs on the test images are {tuple(logits.shape)}; {wanted} is wanted")
        if not bool(torch.isfinite(logits).all()):
            raise TaskFailed("the network's outputs on the test images are not finite")
        self._put(task, began, {"logits": {"logits": logits}}, examples=len(logits))

    def _measure(self, task: Task, began: float) -> None:
        spec = task.spec
        room = self._enter(spec["setting"])
        metric = self.catalogue.from_identity("metric", spec["metric"])
        who = called(self.catalogue, "metric", metric)
        ensemble = self._ensemble(spec, room)
        with blamed(who, "measure"):
            values = list(itertools.islice(metric.measure(ensemble), MAX_VALUES + 1))
        check_values(f"{who}: measure gave", values, metric.name)
        self._put(task, began, {}, values=[_value_json(value) for value in values])

    def _ensemble(self, spec: dict[str, Any], room: Room) -> EvaluatedEnsemble:
        """Return the ensemble of a measurement; metrics of one ensemble come one after another and share it."""
        name = canonical_json([spec["predictions"], spec["members"], spec["seed"]])
        if self._evaluated is None or self._evaluated[0] != name:
            logits = torch.stack([self.store.tensors(key, "logits")["logits"] for key in spec["predictions"]])
            labels = room.test.labels.numpy()
            between = partial(self._between, spec, room)
            self._evaluated = name, EvaluatedEnsemble(logits.numpy(), labels, spec["seed"], between)
        return self._evaluated[1]

    def _between(self, spec: dict[str, Any], room: Room) -> Between:
        network = room.network()
        members = [network.flatten(self.store.tensors(where["object"], where["part"])) for where in spec["members"]]
        between = WatchedBetween(network, members, room.test_images, room.train_images)
        between.stopping = self.session.stopping
        return between


def _normalise(images: Tensor, *, normalisation: Any, device: torch.device) -> Tensor:
    return torch.cat(list(Images(Split(images, torch.zeros(len(images))), normalisation, device).batches()))


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`, or a device that is there; raise `DeviceError`."""
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    if device.startswith("cuda") and not available:
        raise DeviceError(f"--device {device}: no CUDA device is available here; use --device cpu or --device auto")
    return device


def _doing(task: Task) -> str:
    """Say what a task does, for errors that name no plugin."""
    word = {"train": "training", "derive": "deriving", "predict": "predicting", "measure": "measuring"}[task.kind]
    try:
        setting = task.spec["setting"]
        return f"{word} {setting['architecture']['name']} on {setting['dataset']['name']}"
    except (KeyError, TypeError):
        return word


def _value_json(value: MetricValue) -> dict[str, Any]:
    error = value.standard_error
    return {
        "metric": value.metric,
        "value": _number(value.value),
        "standard_error": None if error is None else _number(error),
        "unit": value.unit,
        "better": value.better,
    }


def _number(value: float) -> float | str:
    """JSON has no NaN and no infinities: they travel as text, which `float` reads."""
    value = float(value)
    return value if math.isfinite(value) else repr(value)
