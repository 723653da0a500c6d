"""What happens to the tasks of a worker that has ended.

Tasks that it had not begun are requeued. A task that it had begun may be the cause: it is tried once more, and fails the second
time. A worker that had to leave (a time limit, a preemption) is no task's fault, so another one continues its tasks. A device
that fails in different tasks is left out. A worker that cannot use the store, as where a disk is full, is replaced, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from harness.api.task import Outcome, Task
from harness.errors import DeviceError, HarnessError, Interrupted, StoreError
from harness.execution.engines.assignment import Assignment
from harness.execution.engines.device_slots import DeviceSlots
from harness.execution.engines.launcher import Exit, ExitCause
from harness.execution.engines.pooled_worker import PooledWorker
from harness.execution.worker_messages import BrokenDevice, Refusal
from harness.telemetry.events import Event, RunWarning, TaskRetried


class WorkerExits:
    """Handles the ends of a pool's workers.

    After `start_attempts` workers in a row that ended before they were ready, or that could not use the store, the run ends.
    """

    def __init__(self, assignment: Assignment, slots: DeviceSlots, start_attempts: int, emit: Callable[[Event], None]) -> None:
        self._assignment = assignment
        self._slots = slots
        self._start_attempts = start_attempts
        self._emit = emit
        self._exits: Counter[str] = Counter()  # number of workers that ended during a task, by its key
        self._failed_starts = 0  # in a row
        self._refusals = 0  # since a task was done

    def note_start(self) -> None:
        """A worker is ready."""
        self._failed_starts = 0

    def note_done(self) -> None:
        """A task is done, so the store can be used."""
        self._refusals = 0

    def handle_refusal(self, worker: PooledWorker, refusal: Refusal) -> None:
        """Let others do the tasks of a worker that refuses to work, after its exit; raise its error if they cannot either."""
        message = refusal.message
        if worker.place:
            message = f"{message} ({worker.place})"
        if refusal.event == "code_refused":
            raise HarnessError(message)
        self._refusals += 1
        if self._refusals >= self._start_attempts:
            raise StoreError(message)
        worker.refused = True
        self._emit(RunWarning(message=f"{message}; its tasks go to other workers"))

    def handle(self, worker: PooledWorker, end: Exit) -> list[Outcome]:
        """Requeue the tasks of a worker that has ended; return the outcomes of those that fail.

        Raise `Interrupted` if the whole run was asked to stop, `DeviceError` if no device is left, and `HarnessError` if
        workers cannot be started.
        """
        if not worker.stopped and end.cause is ExitCause.STOPPED and (worker.tasks or not worker.ready):
            raise Interrupted
        if worker.broken is not None:
            return self._handle_broken_device(worker, worker.broken)
        if worker.starting and not worker.refused:
            self._handle_failed_start(end)
        begun = worker.begun
        self._requeue_others(worker, begun)
        reason = f"its worker process ended with {end.reason} before it was done"
        if end.cause is ExitCause.LEFT or worker.refused:
            self._continue_elsewhere(begun, reason)
            return []
        failed, retried = self._count(begun, reason, "tried once more, alone")
        for task in retried:
            self._assignment.retry(task)
        return failed

    def _handle_failed_start(self, end: Exit) -> None:
        """Start another worker, unless too many in a row have ended before they were ready."""
        self._failed_starts += 1
        message = f"a worker process did not start: {end.reason}; {end.log}"
        if self._failed_starts >= self._start_attempts:
            raise HarnessError(message)
        self._emit(RunWarning(message=f"{message}; another one is started"))

    def _requeue_others(self, worker: PooledWorker, begun: Sequence[Task]) -> None:
        """Requeue the tasks of a worker except those that it had begun."""
        not_begun = [task for task in worker.tasks.values() if task not in begun]
        worker.tasks.clear()
        self._assignment.requeue(not_begun)

    def _continue_elsewhere(self, begun: Sequence[Task], reason: str) -> None:
        self._assignment.requeue(begun)
        for task in begun:
            self._emit(TaskRetried(task=task.key, kind=task.kind, message=f"{reason}; another worker goes on"))

    def _count(self, begun: Sequence[Task], reason: str, remedy: str) -> tuple[list[Outcome], list[Task]]:
        """Return outcomes for the tasks whose worker ended the second time, and the other tasks, to be retried."""
        failed: list[Outcome] = []
        retried: list[Task] = []
        for task in begun:
            self._exits[task.key] += 1
            if self._exits[task.key] > 1:
                failed.append(Outcome(task.key, "failed", f"{reason}, twice"))
                continue
            self._emit(TaskRetried(task=task.key, kind=task.kind, message=f"{reason}; {remedy}"))
            retried.append(task)
        return failed, retried

    def _handle_broken_device(self, worker: PooledWorker, broken: BrokenDevice) -> list[Outcome]:
        """Retry each task during which a device failed, alone and before all others. Leave a device out that keeps failing."""
        begun = worker.begun or list(worker.tasks.values())  # it may fail while siblings are prepared, before any has begun
        self._requeue_others(worker, begun)
        device = worker.device or f"the device of {worker.place}"
        reason = f"{device} failed while it was done: {broken.message}"
        failed, retried = self._count(begun, reason, "tried once more, in a new worker process")
        for task in reversed(retried):
            self._assignment.requeue([task])
        by_device = bool(worker.device) and not broken.by_code
        if by_device and self._slots.record_failure(worker.device, [task.key for task in begun]):
            self._leave_out(worker.device, broken.message)
        return failed

    def _leave_out(self, device: str, reason: str) -> None:
        """Use a device no longer; its workers end after their tasks. Raise `DeviceError` if no device is left."""
        message = f"{device} failed in two different tasks ({reason})"
        if not self._slots.limit:
            raise DeviceError(f"{message}, and no other device is left; check it, with nvidia-smi for example")
        self._emit(RunWarning(message=f"{message}; it is left out, and its tasks go to other devices"))
        for worker in self._assignment.workers:
            if worker.device == device:
                worker.finish()
