"""Does one task, or one group of siblings, against the store: what every engine runs, wherever it runs it."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.api.plugin import full_name
from harness.api.task import Outcome, Task, canonical_json
from harness.errors import (
    DamagedObject,
    HarnessError,
    Interrupted,
    PluginFailed,
    StoreError,
    TaskFailed,
    is_out_of_memory,
)
from harness.execution.context import RunContext
from harness.execution.plugin_calls import ProcessState
from harness.execution.tasks.check import check
from harness.execution.tasks.derive import derive
from harness.execution.tasks.measure import measure
from harness.execution.tasks.predict import predict
from harness.execution.tasks.resources import TaskResources
from harness.execution.train_run import TrainTaskRun
from harness.telemetry.provenance import provenance
from harness.text import describe_error, single_line
from harness.training.cuda_graph import capture_is_off
from harness.training.loop import Point, train_together

SAVE_EVERY = 60.0
"""Seconds after which the state of a training is saved at the next end of an epoch."""

_PHASES = {"check": "starting", "train": "other", "derive": "derivation", "predict": "evaluation", "measure": "evaluation"}
"""What a task's time counts as, but for what is told apart within it."""


_TASKS = {"derive": derive, "predict": predict, "measure": measure}


class OutOfMemory(Exception):  # never leaves this module
    """Memory did not suffice for a group of tasks done at once."""


class Worker:
    """Does tasks one after another. Data sets stay loaded between tasks of one setting."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.resources = TaskResources(context)
        self.store, self._watch, self._emit = self.resources.store, context.watch, self.resources.emit
        self._process_state = ProcessState(context.threads)
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
        return self.resources.device.type == "cuda" and len(group) > 1 and group[0].kind == "train" and not capture_is_off()

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
        self.resources.release()
        again = "alone, once more" if len(group) == 1 else f"{len(group)} tasks in halves"
        self._emit("out_of_memory", group[0], message=f"out of memory; tried {again}")
        if len(group) == 1:
            return do(group, True)
        half = self._max_batch[_likeness(group[0])] = (len(group) + 1) // 2
        return [*self.run_with_oom_backoff(group[:half], do), *self.run_with_oom_backoff(group[half:], do)]

    def _one_by_one(self, group: Sequence[Task], last: bool) -> list[Outcome]:
        return [self._attempt(task, self._do, last=last) for task in group]

    def _attempt(self, task: Task, do: Callable[[Task], None], *, last: bool = True) -> Outcome:
        """Turn whatever happens into an outcome; a plugin may raise anything. Raise `OutOfMemory` unless it is the last try."""
        self._process_state.restore()
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
            self._process_state.restore()

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
            self._emit("task_started", task)
            with self._watch(_PHASES["check"]):
                check(task, self.resources)
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
            if task.kind == "train":
                self._train(task)
            else:
                _TASKS[task.kind](task, self.resources)

    def _set_aside(self, where: Path, key: str, reason: str) -> None:
        message = str(DamagedObject(key, reason))
        self.context.emit({"event": "set_aside", "time": time.time(), "key": key, "path": str(where), "message": message})

    def _train(self, task: Task) -> None:
        [(training, end)] = self._run_trainings([self._continue(task)])
        if isinstance(end, TaskFailed):
            raise end
        training.arrive(end)

    def _continue(self, task: Task) -> TrainTaskRun:
        """Return a training at the point that it goes on from."""
        environment = self.resources.environment(task.spec["setting"])
        return TrainTaskRun(task, environment, self.store, self.context, self._watch, SAVE_EVERY)

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
                self._process_state.restore()
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
