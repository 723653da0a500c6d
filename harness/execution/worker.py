"""Does tasks against the store. Every engine runs this code, in its own process or in others."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from typing import assert_never

from harness.api.plugin import full_name
from harness.api.specs import CheckSpec, DeriveSpec, MeasureSpec, PredictSpec, ProbeSpec, TrainSpec
from harness.api.task import Outcome, Task
from harness.errors import DamagedObject, HarnessError, Interrupted, PluginFailed, StoreError, is_out_of_memory
from harness.execution.context import RunContext
from harness.execution.device_errors import broken_device
from harness.execution.process_state import ProcessState
from harness.execution.task_inputs import lease_key
from harness.execution.tasks.check import check
from harness.execution.tasks.derive import derive
from harness.execution.tasks.measure import measure
from harness.execution.tasks.predict import predict
from harness.execution.tasks.probe import probe
from harness.execution.tasks.resources import TaskResources
from harness.execution.tasks.train import train
from harness.execution.tasks.train_jointly import train_jointly
from harness.telemetry.events import ObjectQuarantined, TaskStarted, TaskWaiting
from harness.telemetry.provenance import provenance
from harness.text import describe_error, single_line

_POLL_SECONDS = 0.2  # between two checks of a task that another run is doing

_PHASES = {
    "check": "checking",
    "train": "other",
    "derive": "derivation",
    "predict": "evaluation",
    "measure": "evaluation",
    "probe": "other",
}
"""The stopwatch's phase for each kind of task. Trainings and the store switch to further phases within it."""

_VERBS = {"check": "checking", "train": "training", "derive": "deriving", "predict": "predicting", "measure": "measuring"}


class MemoryExhausted(Exception):  # never leaves this package
    """Tasks that were done at once ran out of memory."""


class Worker:
    """Does tasks one after another. A data set stays loaded for the following tasks of the same setting."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.resources = TaskResources(context)
        self.process_state = ProcessState(context.threads)
        self._store, self._watch = self.resources.store, context.watch
        self._computed: set[str] = set()

    def attempt(self, task: Task, *, last: bool = True) -> Outcome:
        """Do a task, and return how it ended. An exception of a plugin fails the task.

        Raise `Interrupted` if the run must stop, `StoreError` if the store cannot be written, `DeviceBroken` if this process
        can no longer use its device, and `MemoryExhausted` for any out-of-memory error unless this is the `last` try.
        `KeyboardInterrupt` is not caught.
        """
        self.process_state.restore()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a command's output must not contain a plugin's
                executed = self._do(task)
            return self.done(task, executed=executed)
        except (Interrupted, KeyboardInterrupt, StoreError):
            raise
        except DamagedObject as error:
            return Outcome(task.key, "damaged", str(error), damaged=error.key)
        except BaseException as error:
            broken = broken_device(error, self.resources.device)
            if broken is not None:
                self.failed(task, error)  # records the traceback
                raise broken from error
            if is_out_of_memory(error) and not last:
                raise MemoryExhausted from None
            return self.failed(task, error)
        finally:
            self.process_state.restore()

    def done(self, task: Task, *, executed: bool = True) -> Outcome:
        """Return the outcome of a task whose result is stored.

        A task that was not `executed` was done by another run, unless this worker did it in an attempt that failed later.
        """
        if executed:
            self._computed.add(task.key)
        return Outcome(task.key, "done", taken_over=task.key not in self._computed)

    def failed(self, task: Task, error: BaseException) -> Outcome:
        """Return the outcome of a task that raised an exception; record the traceback in the store."""
        if isinstance(error, HarnessError):
            message = single_line(str(error))
        else:
            message = f"{_doing(task)}: {describe_error(error)}"
        details = ""
        if isinstance(error, PluginFailed) or not isinstance(error, HarnessError):
            details = "".join(traceback.format_exception(error))
        facts = {
            "message": message,
            "traceback": details,
            "time": time.time(),
            "spec": task.spec.to_json(),
            "provenance": provenance(),
        }
        self._store.record_failure(task.key, facts)
        return Outcome(task.key, "failed", message, traceback=details, out_of_memory=is_out_of_memory(error))

    def report_start(self, task: Task) -> None:
        """Report that a task begins."""
        self.context.emit(TaskStarted(task=task.key, kind=task.kind))

    def _do(self, task: Task) -> bool:
        """Do one task while holding its lease, and return True. Return False if its object exists.

        Wait while another run does it.
        """
        if isinstance(task.spec, CheckSpec | ProbeSpec):  # every run does its own
            self._execute(task)
            return True
        reported = False
        with self._watch("store"):
            while not self._store.has(task.key):
                if self.context.stopping():
                    raise Interrupted
                with self._store.lease(lease_key(task)) as acquired:
                    if acquired:
                        self._store.refresh(task.key)
                        if self._store.has(task.key):
                            return False
                        self._execute(task)
                        return True
                if not reported:
                    message = "another run is working on it"
                    self.context.emit(TaskWaiting(task=task.key, kind=task.kind, message=message))
                    reported = True
                with self._watch("waiting"):
                    time.sleep(_POLL_SECONDS)
        return False

    def _execute(self, task: Task) -> None:
        """Do a task, a stored one under its lease. An object that cannot be read is quarantined first."""
        self.report_start(task)
        if self._store.present(task.key):
            path = str(self._store.quarantine(task.key))
            message = str(DamagedObject(task.key, "it is not whole"))
            self.context.emit(ObjectQuarantined(key=task.key, path=path, message=message))
        spec = task.spec
        with self._watch(_PHASES[task.kind]):
            match spec:
                case TrainSpec() if spec.coupled is not None:
                    train_jointly(task, spec, self.resources)
                case TrainSpec():
                    train(task, spec, self.resources)
                case DeriveSpec():
                    derive(task, spec, self.resources)
                case PredictSpec():
                    predict(task, spec, self.resources)
                case MeasureSpec():
                    measure(task, spec, self.resources)
                case CheckSpec():
                    check(spec, self.resources)
                case ProbeSpec():
                    probe(task.key, spec, self.resources)
                case _:
                    assert_never(spec)


def _doing(task: Task) -> str:
    """Return what a task does, for messages of errors that name no plugin."""
    if isinstance(task.spec, ProbeSpec):
        return "probing"
    setting = task.spec.setting
    verb = _VERBS[task.kind]
    try:
        return f"{verb} {full_name(setting.architecture)} on {full_name(setting.dataset)}"
    except (KeyError, TypeError):
        return verb
