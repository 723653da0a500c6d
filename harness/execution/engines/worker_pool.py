"""Assigns groups of tasks to worker processes on this machine.

If a worker process ends during a task (a plugin exits, a crash, the kernel's out-of-memory killer), the task is retried once
while no other worker is busy. If that fails too, only this task fails. Tasks that the process had not begun are requeued.

If a device fails so that its process can no longer use it, the task is retried once in another process. A device that fails in
different tasks is left out.
"""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Sequence

from harness.api.engine import EngineContext
from harness.api.task import Outcome, Task
from harness.errors import DeviceError, HarnessError, Interrupted, StoreError
from harness.execution.engines.device_slots import DeviceSlots
from harness.execution.engines.worker_process import Exit, FromWorker, WorkerProcess
from harness.execution.stop_signals import asked_to_stop, ended_by_stop_signal
from harness.execution.worker_messages import BrokenDevice, Refusal
from harness.telemetry.events import RunWarning, TaskRetried

GRACE_SECONDS = 60.0
"""Time for a worker to save its trainings after it was asked to stop; then it is killed."""

_POLL_SECONDS = 0.2  # between two checks for a request to stop and for timeouts


class WorkerPool:
    """`harness worker` processes that are started when there are tasks for them and run until the end of the run.

    One thread per process reads its output. All decisions are made in `submit` and `wait`, in the caller's thread. `devices`
    are those of the workers, one each. With `whole_groups`, one worker does a group of siblings.
    """

    def __init__(
        self, context: EngineContext, devices: Sequence[str], timeout: float | None = None, *, whole_groups: bool = False
    ) -> None:
        self._context = context
        self._slots = DeviceSlots(devices)
        self._timeout = timeout
        self._whole_groups = whole_groups
        self._waiting: deque[Sequence[Task]] = deque()
        self._workers: list[WorkerProcess] = []
        self._inbox: queue.Queue[FromWorker] = queue.Queue()
        self._exits: Counter[str] = Counter()  # number of worker processes that ended during a task, by its key
        self._retries: deque[Task] = deque()  # tasks to retry while no other worker is busy
        self._retrying: WorkerProcess | None = None
        self._open = 0

    @property
    def has_capacity(self) -> bool:
        """Whether a worker is idle or can be started, and no submitted task is waiting for it."""
        busy = sum(bool(worker.tasks) and self._slots.is_usable(worker.index) for worker in self._workers)
        return not self._retry_is_running and not self._waiting and busy < self._slots.limit

    @property
    def _retry_is_running(self) -> bool:
        return self._retrying is not None and bool(self._retrying.tasks)

    def submit(self, group: Sequence[Task]) -> None:
        """Queue a group: as a whole if one worker must do it (on CUDA; measurements share an ensemble), else task by task."""
        if self._whole_groups or group[0].kind == "measure":
            self._waiting.append(group)
        else:
            self._waiting.extend([task] for task in group)
        self._open += len(group)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers. Tasks to retry wait until nothing else does and no worker is busy."""
        if self._retry_is_running:
            return
        while self._waiting:
            worker = self._idle_worker()
            if worker is None:
                return
            worker.give(self._waiting.popleft())
        if self._retries and not any(worker.tasks for worker in self._workers):
            self._retrying = self._idle_worker()
            if self._retrying is not None:
                self._retrying.give([self._retries.popleft()])

    def _idle_worker(self) -> WorkerProcess | None:
        """Return an idle worker; start one if all are busy, unless the limit is reached. Return None then."""
        for worker in self._workers:
            if worker.idle:
                return worker
        index = self._slots.free({worker.index for worker in self._workers})
        if index is None:
            return None
        worker = WorkerProcess(self._context, index, self._slots.devices[index], self._inbox)
        self._workers.append(worker)
        return worker

    def wait(self) -> Sequence[Outcome]:
        """Return the outcomes of the next tasks that end; raise `Interrupted` if the run must stop."""
        if not self._open:
            raise HarnessError("the local engine was asked to wait for nothing")
        while True:
            if self._context.stopping():
                raise Interrupted
            try:
                outcomes = self._handle(self._inbox.get(timeout=_POLL_SECONDS))
            except queue.Empty:
                outcomes = self._check_timeouts()
            self._hand_out()
            if outcomes:
                self._open -= len(outcomes)
                return outcomes

    def _handle(self, received: FromWorker) -> list[Outcome]:
        """Handle a message of a worker; return the outcomes that it causes."""
        worker, message = received.worker, received.message
        if isinstance(message, Refusal):
            error = StoreError if message.event == "store_refused" else HarnessError
            raise error(message.message)
        if isinstance(message, BrokenDevice):
            worker.broken = message
            return []
        if isinstance(message, Exit):
            self._workers.remove(worker)
            if worker.broken is not None:
                return self._handle_broken_device(worker, worker.broken)
            return self._handle_exit(worker, message.code)
        if message.key not in worker.tasks:
            return []
        if message.status == "interrupted":
            raise Interrupted
        del worker.tasks[message.key]
        if message.status == "failed" and message.traceback:
            worker.stop()  # leftovers of a plugin (memory, settings) must not affect tasks of later groups
        return [message]

    def _handle_exit(self, worker: WorkerProcess, code: int) -> list[Outcome]:
        """Requeue a dead worker's tasks. Those that it had begun may be the cause of its end: they are retried alone."""
        if worker.tasks and not worker.stopped and _stopped_on_request(worker, code):
            raise Interrupted
        if not worker.ready and not worker.stopped:
            raise HarnessError(f"a worker process did not start: {_describe_exit(code)}; what it said stands above")
        begun = worker.begun
        self._requeue_others(worker, begun)
        message = f"its worker process ended with {_describe_exit(code)} before it was done"
        failed, retried = self._count_exit(begun, message, "tried once more, alone")
        self._retries.extend(retried)
        return failed

    def _handle_broken_device(self, worker: WorkerProcess, broken: BrokenDevice) -> list[Outcome]:
        """Retry the tasks during which a device failed, each by itself, next. Leave the device out if it keeps failing.

        Raise `DeviceError` if no device is left.
        """
        begun = worker.begun or list(worker.tasks.values())  # it may fail while siblings are prepared, before any has begun
        self._requeue_others(worker, begun)
        message = f"{worker.device} failed while it was done: {broken.message}"
        failed, retried = self._count_exit(begun, message, "tried once more, in a new worker process")
        self._waiting.extendleft([task] for task in reversed(retried))
        if not broken.by_code and self._slots.record_failure(worker.device, [task.key for task in begun]):
            self._leave_out(worker.device, broken.message)
        return failed

    def _requeue_others(self, worker: WorkerProcess, begun: Sequence[Task]) -> None:
        """Requeue a dead worker's tasks except those that it had begun."""
        not_begun = [task for task in worker.tasks.values() if task not in begun]
        worker.tasks.clear()
        if not_begun:
            self._waiting.appendleft(not_begun)

    def _count_exit(self, begun: Sequence[Task], message: str, remedy: str) -> tuple[list[Outcome], list[Task]]:
        """Return outcomes for the tasks whose worker process ended the second time, and the other tasks, to be retried."""
        failed: list[Outcome] = []
        retried: list[Task] = []
        for task in begun:
            self._exits[task.key] += 1
            if self._exits[task.key] > 1:
                failed.append(Outcome(task.key, "failed", f"{message}, twice"))
                continue
            self._context.emit(TaskRetried(task=task.key, kind=task.kind, message=f"{message}; {remedy}"))
            retried.append(task)
        return failed, retried

    def _leave_out(self, device: str, reason: str) -> None:
        """Use a device no longer; its workers end after their tasks. Raise `DeviceError` if no device is left."""
        message = f"{device} failed in two different tasks ({reason})"
        if not self._slots.limit:
            raise DeviceError(f"{message}, and no other device is left; check it, with nvidia-smi for example")
        self._context.emit(RunWarning(message=f"{message}; it is left out, and its tasks go to other devices"))
        for worker in self._workers:
            if worker.device == device:
                worker.stop()

    def _check_timeouts(self) -> list[Outcome]:
        """Kill workers that sent no message for longer than the timeout; their current tasks fail."""
        outcomes: list[Outcome] = []
        if self._timeout is None:
            return outcomes
        for worker in self._workers:
            if worker.silence > self._timeout and worker.current in worker.tasks:
                worker.kill()
                task = worker.tasks.pop(worker.current)
                message = f"no sign of life for {self._timeout:g} seconds (--task-timeout); its worker process was ended"
                outcomes.append(Outcome(task.key, "failed", message))
        return outcomes

    def close(self) -> None:
        """Stop all workers. They save their trainings first."""
        for worker in self._workers:
            worker.stop(at_once=True)
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            worker.join(deadline)


def _stopped_on_request(worker: WorkerProcess, code: int) -> bool:
    """Return whether a stop signal ended the worker. A scheduler may send one to every process of a job."""
    return asked_to_stop(code) or (not worker.ready and ended_by_stop_signal(code))


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"
