"""Worker processes on this machine, and who gets which task.

A worker process that ends during a task (a plugin that exits, a crash, the kernel's out-of-memory killer) fails that task at
most: it is tried once more while no other worker is busy. Tasks that the process had not begun go to other workers.
"""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Sequence

from harness.api.engine import EngineContext
from harness.api.task import Outcome, Task
from harness.errors import HarnessError, Interrupted, StoreError
from harness.execution.engines.cuda_devices import count_cuda_devices
from harness.execution.engines.worker_process import Exit, FromWorker, WorkerProcess
from harness.execution.stop_signals import asked_to_stop, ended_by_stop_signal
from harness.execution.worker_messages import Refusal
from harness.telemetry.events import TaskRetried

GRACE_SECONDS = 60.0
"""In which a worker that was asked to end must have saved its trainings."""

_LOOK_SECONDS = 0.2  # between two looks at whether to stop, and at timeouts


class WorkerPool:
    """`harness worker` processes, started when there is work for them, that stay until the end of the run.

    Each is read by a thread of its own. All decisions are made in `submit` and `wait`, in the caller's thread.
    """

    def __init__(self, context: EngineContext, workers: int, device: str, timeout: float | None) -> None:
        self._context, self._limit, self._device, self._timeout = context, workers, device, timeout
        self._waiting: deque[Sequence[Task]] = deque()
        self._workers: list[WorkerProcess] = []
        self._inbox: queue.Queue[FromWorker] = queue.Queue()
        self._exits: Counter[str] = Counter()  # by task: worker processes that ended during it
        self._retries: deque[Task] = deque()  # to be tried once more while no other worker is busy
        self._retrying: WorkerProcess | None = None
        self._open = 0

    @property
    def has_capacity(self) -> bool:
        """Whether a worker is idle, or can be started, and nothing else waits for it."""
        busy = sum(bool(worker.tasks) for worker in self._workers)
        return not self._retry_is_running and not self._waiting and busy < self._limit

    @property
    def _retry_is_running(self) -> bool:
        return self._retrying is not None and bool(self._retrying.tasks)

    def submit(self, group: Sequence[Task]) -> None:
        """Queue a group: whole where its tasks share expensive data, else task by task for any worker to take."""
        if self._device == "cuda" or group[0].kind == "measure":
            self._waiting.append(group)
        else:
            self._waiting.extend([task] for task in group)
        self._open += len(group)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers; a task to be retried only once no worker is busy."""
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
        """Return an idle worker; start one if all are busy and the limit allows it."""
        for worker in self._workers:
            if worker.idle:
                return worker
        if len(self._workers) >= self._limit:
            return None
        worker = self._start_worker()
        self._workers.append(worker)
        return worker

    def _start_worker(self) -> WorkerProcess:
        """Start a worker in the lowest free place; on CUDA, places are spread over the devices."""
        taken = {worker.place for worker in self._workers}
        place = min(set(range(self._limit)) - taken)
        device = f"cuda:{place % count_cuda_devices()}" if self._device == "cuda" else self._device
        return WorkerProcess(self._context, place, device, self._inbox)

    def wait(self) -> Sequence[Outcome]:
        """Return the outcomes of the next tasks that end; raise `Interrupted` when asked to stop."""
        if not self._open:
            raise HarnessError("the local engine was asked to wait for nothing")
        while True:
            if self._context.stopping():
                raise Interrupted
            try:
                outcomes = self._handle(self._inbox.get(timeout=_LOOK_SECONDS))
            except queue.Empty:
                outcomes = self._check_timeouts()
            self._hand_out()
            if outcomes:
                self._open -= len(outcomes)
                return outcomes

    def _handle(self, received: FromWorker) -> list[Outcome]:
        """Act on a message; return the outcomes that follow from it."""
        worker, message = received.worker, received.message
        if isinstance(message, Refusal):
            raise StoreError(message.message) if message.event == "store_refused" else HarnessError(message.message)
        if isinstance(message, Exit):
            self._workers.remove(worker)
            return self._handle_exit(worker, message.code)
        if message.key not in worker.tasks:
            return []
        if message.status == "interrupted":
            raise Interrupted
        del worker.tasks[message.key]
        if message.status == "failed" and message.traceback:
            worker.stop()  # a plugin's leftovers (memory, settings) must not affect other tasks
        return [message]

    def _handle_exit(self, worker: WorkerProcess, code: int) -> list[Outcome]:
        """Requeue a dead worker's tasks. Only the task that it had begun counts as a possible cause."""
        if worker.tasks and not worker.stopped and _stopped_on_request(worker, code):
            raise Interrupted
        if not worker.ready and not worker.stopped:
            raise HarnessError(f"a worker process did not start: {_describe_exit(code)}; what it said stands above")
        current = worker.tasks.pop(worker.current, None)
        if worker.tasks:
            self._waiting.appendleft(list(worker.tasks.values()))
        if current is None:
            return []
        self._exits[current.key] += 1
        message = f"its worker process ended with {_describe_exit(code)} before it was done"
        if self._exits[current.key] > 1:
            return [Outcome(current.key, "failed", f"{message}, twice")]
        retried = TaskRetried(task=current.key, kind=current.kind, message=f"{message}; tried once more, alone")
        self._context.emit(retried)
        self._retries.append(current)
        return []

    def _check_timeouts(self) -> list[Outcome]:
        """Kill the workers that have been silent for too long; their current tasks fail."""
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
        """Stop all workers; they save their trainings first."""
        for worker in self._workers:
            worker.stop(at_once=True)
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            worker.join(deadline)


def _stopped_on_request(worker: WorkerProcess, code: int) -> bool:
    """Return whether a worker ended because of a stop signal: a scheduler may signal every process of a job."""
    return asked_to_stop(code) or (not worker.ready and ended_by_stop_signal(code))


def _describe_exit(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
