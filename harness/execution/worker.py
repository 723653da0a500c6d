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
from harness.api.ensemble import EvaluatedEnsemble
from harness.api.interfaces import Derivation, DerivationContext, MetricValue, Split
from harness.api.plugin import full_name
from harness.api.task import Outcome, Task, canonical_json
from harness.errors import (
    DamagedObject,
    HarnessError,
    Interrupted,
    PluginFailed,
    StoreError,
    TaskFailed,
    attribute_errors,
    is_out_of_memory,
)
from harness.execution.context import RunContext
from harness.execution.device import resolve_device
from harness.execution.dry_pass import DryPass
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import MAX_VALUES, ProcessState, check_logits, check_states, check_values, plugin_label
from harness.execution.train_run import TrainTaskRun, make_objective, teacher_network
from harness.networks.evaluation import NormalizedImages, predict
from harness.networks.flat_network import State
from harness.networks.interpolation import InterpolatedNetwork
from harness.results.ensemble_warnings import ensemble_warnings
from harness.store import Store
from harness.telemetry.provenance import provenance
from harness.text import describe_error, single_line
from harness.training.cuda_graph import capture_is_off
from harness.training.loop import Point, train_together

SAVE_EVERY = 60.0
"""Seconds after which the state of a training is saved at the next end of an epoch."""

_PHASES = {"check": "starting", "train": "other", "derive": "derivation", "predict": "evaluation", "measure": "evaluation"}
"""What a task's time counts as, but for what is told apart within it."""


class OutOfMemory(Exception):  # never leaves this room
    """Memory did not suffice for a group of tasks done at once."""


class Worker:
    """Does tasks one after another. Data sets stay loaded between tasks of one setting."""

    def __init__(self, context: RunContext) -> None:
        self.context, self.catalogue = context, context.catalogue
        self.store = Store(context.store)
        self.device = torch.device(resolve_device(context.device))
        self._room: tuple[str, TaskEnvironment] | None = None
        self._evaluated: tuple[str, EvaluatedEnsemble] | None = None
        self._found = ProcessState(context.threads)
        self._watch = context.watch
        self._max_batch: dict[str, int] = {}  # largest group that fits in memory, learned from out-of-memory errors

    def run(self, group: Sequence[Task]) -> list[Outcome]:
        """Do the tasks of a group; return how each ended. Raise `Interrupted` when asked to stop, and `StoreError` when the
        store takes no more."""
        with self._watch("other"):
            try:
                if self._siblings_pay(group):
                    return self._in_lots(group)
                return [outcome for task in group for outcome in self.run_with_oom_backoff([task], self._one_by_one)]
            finally:
                self.context.emit(self._watch.event())

    def _siblings_pay(self, group: Sequence[Task]) -> bool:
        """Say whether to train a group side by side: on a GPU, whose gaps they fill; on the CPU one after another is faster."""
        return self.device.type == "cuda" and len(group) > 1 and group[0].kind == "train" and not capture_is_off()

    def _in_lots(self, group: Sequence[Task]) -> list[Outcome]:
        """Train siblings side by side, as many at once as there turned out to be room for when such were last trained."""
        outcomes: list[Outcome] = []
        while left := group[len(outcomes) :]:
            lot = left[: self._max_batch.get(_likeness(left[0]), len(left))]
            outcomes += self.run_with_oom_backoff(lot, self._side_by_side)
        return outcomes

    def run_with_oom_backoff(self, group: Sequence[Task], do: Callable[[Sequence[Task], bool], list[Outcome]]) -> list[Outcome]:
        """Do a group at once; where memory does not suffice, by halves, down to one task, and that once more with all else let
        go. `do` raises `OutOfMemory`, unless told that this is the last try. What a task computes does not depend on it."""
        with contextlib.suppress(OutOfMemory):
            return do(group, False)
        self._let_go()
        again = "alone, once more" if len(group) == 1 else f"{len(group)} tasks in halves"
        self._emit("out_of_memory", group[0], message=f"out of memory; tried {again}")
        if len(group) == 1:
            return do(group, True)
        half = self._max_batch[_likeness(group[0])] = (len(group) + 1) // 2
        return [*self.run_with_oom_backoff(group[:half], do), *self.run_with_oom_backoff(group[half:], do)]

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
            if is_out_of_memory(error) and not last:
                raise OutOfMemory from None
            return self._failed(task, error)
        finally:
            self._found.restore()

    def _failed(self, task: Task, error: BaseException) -> Outcome:
        """Keep a failure in the store, and say it in a line."""
        known = isinstance(error, HarnessError) and not isinstance(error, PluginFailed)
        message = single_line(str(error)) if isinstance(error, HarnessError) else f"{_doing(task)}: {describe_error(error)}"
        details = "" if known else "".join(traceback.format_exception(error))
        facts = {"message": message, "traceback": details, "time": time.time(), "spec": task.spec, "provenance": provenance()}
        self.store.record_failure(task.key, facts)
        return Outcome(task.key, "failed", message, traceback=details)

    def _do(self, task: Task) -> None:
        """Do one task under its lease, unless it is done; wait while another run has it in work."""
        if task.kind == "check":
            self._check(task)
            return
        told = False
        with self._watch("store"):
            while not self.store.has(task.key):
                if self.context.stopping():
                    raise Interrupted
                with self.store.lease(task.spec.get("trajectory_key", task.key)) as mine:
                    if mine:
                        if not self.store.has(task.key):
                            self._begin(task)
                        return
                if not told:
                    self._emit("waiting", task, message="another run is working on it")
                    told = True
                with self._watch("waiting"):
                    time.sleep(0.2)

    def _begin(self, task: Task) -> None:
        """Do a task that is this worker's."""
        self._emit("task_started", task)
        if self.store.present(task.key):
            self._set_aside(self.store.quarantine(task.key), task.key, "it is not whole")
        with self._watch(_PHASES[task.kind]):
            getattr(self, f"_{task.kind}")(task, time.monotonic())

    def _emit(self, event: str, task: Task, **facts: Any) -> None:
        self.context.emit({"event": event, "task": task.key, "kind": task.kind, "time": time.time(), **facts})

    def _set_aside(self, where: Path, key: str, reason: str) -> None:
        message = str(DamagedObject(key, reason))
        self.context.emit({"event": "set_aside", "time": time.time(), "key": key, "path": str(where), "message": message})

    def _enter(self, setting: dict[str, Any]) -> TaskEnvironment:
        name = canonical_json(setting)
        if self._room is None or self._room[0] != name:
            self._room = None  # let go of the old one's memory first
            with self._watch("data"):
                self._room = name, TaskEnvironment(self.catalogue, setting, self.context.data, self.device)
        return self._room[1]

    def _put(self, task: Task, began: float, parts: dict[str, State], **facts: Any) -> None:
        meta = {"kind": task.kind, "spec": task.spec, "seconds": round(time.monotonic() - began, 3), "provenance": provenance()}
        with self._watch("store"):
            self.store.put(task.key, {**meta, **facts}, parts)

    # -- before training

    def _check(self, task: Task) -> None:
        """Try everything that a training does once, on two images: what can be wrong shows before hours are spent."""
        self._emit("task_started", task)
        with self._watch(_PHASES["check"]):
            self._dry_pass(task)

    def _dry_pass(self, task: Task) -> None:
        room = self._enter(task.spec["setting"])
        objective, label = make_objective(self.catalogue, task.spec["objective"])
        teacher = task.spec["teacher"]
        network = None if teacher is None else teacher_network(self.catalogue, teacher, room, self.context.data)
        DryPass(room, objective, label, network).run()

    # -- training

    def _train(self, task: Task, began: float) -> None:
        [(training, end)] = self._run_trainings([self._continue(task)])
        if isinstance(end, TaskFailed):
            raise end
        training.arrive(end)

    def _continue(self, task: Task) -> TrainTaskRun:
        """Return a training at the point that it goes on from."""
        return TrainTaskRun(task, self._enter(task.spec["setting"]), self.store, self.context, self._watch, SAVE_EVERY)

    def _run_trainings(self, lot: Sequence[TrainTaskRun]) -> list[tuple[TrainTaskRun, Point | TaskFailed]]:
        """Train siblings that start from one step side by side; return where each got."""
        for training in lot:
            training.begin()
        ends = train_together(
            [training.trainer for training in lot],
            [training.start for training in lot],
            lot[0].until,
            stopping=self.context.stopping,
            after_epoch=[training.after_epoch for training in lot],
            watch=self._watch,
        )
        return list(zip(lot, ends, strict=True))

    def _side_by_side(self, group: Sequence[Task], last: bool) -> list[Outcome]:
        """Train the siblings that nobody else has in work and that have come equally far; then do what is left one by one.

        That one of them diverges is its own affair, and exhausted memory the caller's. Whatever else goes wrong with several at
        once is left to each alone.
        """
        ended: dict[str, Outcome] = {}
        with contextlib.ExitStack() as leases, contextlib.redirect_stdout(sys.stderr):
            try:
                for lot in self._lots([] if last or len(group) == 1 else group, leases):
                    ended |= self._train_together(lot)
            except (Interrupted, KeyboardInterrupt, StoreError):
                raise
            except BaseException as error:
                if is_out_of_memory(error):
                    raise OutOfMemory from None
                self._emit("siblings_parted", group[0], message=f"siblings are trained one by one: {describe_error(error)}")
            finally:
                self._found.restore()
        return [ended.get(task.key) or self._attempt(task, self._do, last=last) for task in group]

    def _lots(self, group: Sequence[Task], leases: contextlib.ExitStack) -> list[list[TrainTaskRun]]:
        """Return the trainings of a group, under their leases, that start from one step: those of which there are several."""
        lots: dict[int, list[TrainTaskRun]] = {}
        for task in group:
            if self.store.has(task.key) or not leases.enter_context(self.store.lease(task.spec["trajectory_key"])):
                continue
            if not self.store.present(task.key):
                training = self._continue(task)
                lots.setdefault(training.start.step, []).append(training)
        return [lot for lot in lots.values() if len(lot) > 1]

    def _train_together(self, lot: Sequence[TrainTaskRun]) -> dict[str, Outcome]:
        """Train siblings side by side; return how they ended. Raise `Interrupted` when all that was reached is kept."""
        for training in lot:
            self._emit("task_started", training.task)
        outcomes, interrupted = {}, False
        for training, end in self._run_trainings(lot):
            key = training.task.key
            if isinstance(end, TaskFailed):
                outcomes[key] = self._failed(training.task, end)
                continue
            try:
                training.arrive(end)
                outcomes[key] = Outcome(key, "done")
            except Interrupted:
                interrupted = True
        if interrupted:
            raise Interrupted
        return outcomes

    # -- deriving, predicting, measuring

    def _derive(self, task: Task, began: float) -> None:
        room = self._enter(task.spec["setting"])
        derivation: Derivation = self.catalogue.from_identity("derivation", task.spec["derivation"])
        parents = [self.store.tensors(where["object"], where["part"]) for where in task.spec["parent_locations"]]
        normalize = partial(_normalize, normalization=room.normalization, device=self.device)
        stream = streams.key(*task.spec["stream"])
        place = DerivationContext(room.module, room.train, room.test, normalize, self.device, stream)
        who = plugin_label(self.catalogue, "derivation", derivation)
        shared = [room.train.images, room.train.labels, room.test.images, room.test.labels]
        versions = [images._version for images in shared]
        with attribute_errors(who, "derive"):
            given, facts = derivation.derive(parents, place)
            states, facts = [dict(state) for state in given], dict(facts)
            canonical_json(facts)
        if versions != [images._version for images in shared]:
            self._room = None  # the next task reads the data anew
            raise PluginFailed(f"{who}: derive changes the data set's images or labels in place; work on a copy")
        check_states(f"{who}: derive gave", states, derivation.outputs, parents[0])
        self._put(task, began, {f"weights-{i}": state for i, state in enumerate(states)}, facts=facts)

    def _predict(self, task: Task, began: float) -> None:
        room = self._enter(task.spec["setting"])
        network = room.network()
        with self._watch("store"):
            network.load(self.store.tensors(task.spec["location"]["object"], task.spec["location"]["part"]))
        with attribute_errors(room.who, "forward"):
            logits = predict(network, room.test_images).cpu()
        check_logits(room.who, logits, (len(room.test), room.num_classes), "on the test images")
        self._put(task, began, {"logits": {"logits": logits}}, examples=len(logits))

    def _measure(self, task: Task, began: float) -> None:
        spec = task.spec
        room = self._enter(spec["setting"])
        metric = self.catalogue.from_identity("metric", spec["metric"])
        who = plugin_label(self.catalogue, "metric", metric)
        ensemble = self._ensemble(spec, room)
        with attribute_errors(who, "measure"):
            values = list(itertools.islice(metric.measure(ensemble), MAX_VALUES + 1))
        check_values(f"{who}: measure gave", values, metric.name)
        warnings = ensemble_warnings(ensemble.logits, ensemble.labels)
        self._put(task, began, {}, values=[_value_json(value) for value in values], warnings=warnings)

    def _ensemble(self, spec: dict[str, Any], room: TaskEnvironment) -> EvaluatedEnsemble:
        """Return the ensemble of a measurement; metrics of one ensemble come one after another and share it."""
        name = canonical_json([spec["predictions"], spec["members"], spec["seed"]])
        if self._evaluated is None or self._evaluated[0] != name:
            with self._watch("store"):
                logits = torch.stack([self.store.tensors(key, "logits")["logits"] for key in spec["predictions"]])
            labels = room.test.labels.numpy()
            between = partial(self._between, spec, room)
            self._evaluated = name, EvaluatedEnsemble(logits.numpy(), labels, spec["seed"], between)
        return self._evaluated[1]

    def _between(self, spec: dict[str, Any], room: TaskEnvironment) -> InterpolatedNetwork:
        with self._watch("store"):
            states = [self.store.tensors(where["object"], where["part"]) for where in spec["members"]]
        between = InterpolatedNetwork(
            room.network(), states, room.test_images, room.train_images, label=room.who, stopping=self.context.stopping
        )
        if between.statistics.unexplained:
            names = ", ".join(f"'{name}'" for name in between.statistics.unexplained)
            message = f"{room.who}: {names}: training changes it, but not as a moving average; interpolated, not recomputed"
            self.context.emit({"event": "warning", "time": time.time(), "message": message})
        return between


def _normalize(images: Tensor, *, normalization: Any, device: torch.device) -> Tensor:
    return torch.cat(list(NormalizedImages(Split(images, torch.zeros(len(images))), normalization, device).batches()))


def _likeness(task: Task) -> str:
    """Say what two tasks that need as much memory have in common."""
    objective = task.spec.get("trajectory", {}).get("objective", {}).get("name")
    return canonical_json([task.kind, task.spec.get("setting"), objective])


def _doing(task: Task) -> str:
    """Say what a task does, for errors that name no plugin."""
    words = {"check": "checking", "train": "training", "derive": "deriving", "predict": "predicting", "measure": "measuring"}
    word = words[task.kind]
    try:
        setting = task.spec["setting"]
        return f"{word} {full_name(setting['architecture'])} on {full_name(setting['dataset'])}"
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
