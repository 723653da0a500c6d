"""Gives groups of tasks to workers, however these are started and reached, and returns the outcomes."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import replace

from harness.api.engine import EngineContext
from harness.api.task import Outcome, Task
from harness.errors import HarnessError, Interrupted, StoreError
from harness.execution.engines.assignment import Assignment, PoolPolicy
from harness.execution.engines.device_slots import DeviceSlots
from harness.execution.engines.launcher import Exit, Launcher
from harness.execution.engines.pooled_worker import FromWorker, PooledWorker
from harness.execution.engines.worker_exits import WorkerExits
from harness.execution.worker_messages import Refusal
from harness.telemetry.events import WorkerReady

GRACE_SECONDS = 60.0
"""Time for a worker to save its trainings after it was asked to stop; then it is killed."""

_POLL_SECONDS = 0.2  # between two checks for a request to stop and for timeouts


class WorkerPool:
    """Workers that are started when there are tasks for them and run until the end of the run.

    All decisions are made in `submit` and `wait`, in the caller's thread.
    """

    def __init__(self, context: EngineContext, launcher: Launcher, policy: PoolPolicy) -> None:
        self._context = context
        self._launcher = launcher
        self._policy = policy
        slots = DeviceSlots([launcher.device(index) for index in range(policy.limit)])
        self._assignment = Assignment(policy, slots, self._start_worker)
        self._exits = WorkerExits(self._assignment, slots, policy.start_attempts, context.emit)
        self._inbox: queue.Queue[FromWorker] = queue.Queue()
        self._open = 0

    @property
    def has_capacity(self) -> bool:
        """Whether there is a worker, or can be one, for another group."""
        return self._assignment.has_capacity

    def submit(self, group: Sequence[Task]) -> None:
        """Accept a group of ready tasks."""
        self._assignment.add(group)
        self._open += len(group)
        self._assignment.hand_out()

    def _start_worker(self, index: int) -> PooledWorker:
        return PooledWorker(index, self._launcher, self._context.emit, self._inbox)

    def wait(self) -> Sequence[Outcome]:
        """Return the outcomes of the next tasks that end; raise `Interrupted` if the run must stop."""
        if not self._open:
            raise HarnessError("the engine was asked to wait for nothing")
        while True:
            if self._context.stopping():
                raise Interrupted
            try:
                outcomes = self._handle(self._inbox.get(timeout=_POLL_SECONDS))
            except queue.Empty:
                outcomes = self._check_timeouts()
                self._release_idle_workers()
            self._assignment.hand_out()
            if outcomes:
                self._open -= len(outcomes)
                return outcomes

    def _handle(self, received: FromWorker) -> list[Outcome]:
        """Handle the news of a worker; return the outcomes that they cause."""
        worker, news = received.worker, received.news
        if isinstance(news, HarnessError):
            raise news
        if isinstance(news, Refusal):
            error = StoreError if news.event == "store_refused" else HarnessError
            where = f" ({worker.place})" if worker.place else ""
            raise error(f"{news.message}{where}")
        if isinstance(news, WorkerReady):
            worker.ready = True
            self._exits.note_start()
            return []
        if isinstance(news, Exit):
            self._assignment.workers.remove(worker)
            return self._exits.handle(worker, news)
        return self._handle_outcome(worker, news)

    def _handle_outcome(self, worker: PooledWorker, outcome: Outcome) -> list[Outcome]:
        if outcome.key not in worker.tasks:
            return []
        if outcome.status == "interrupted":
            raise Interrupted
        del worker.tasks[outcome.key]
        if outcome.status == "failed" and outcome.traceback:
            worker.finish()  # leftovers of a plugin (memory, settings) must not affect tasks of later groups
        if outcome.status == "failed" and worker.place:
            outcome = replace(outcome, message=f"{outcome.message} ({worker.place})")
        return [outcome]

    def _check_timeouts(self) -> list[Outcome]:
        """Kill workers that sent no message for longer than the timeout; their current tasks fail."""
        outcomes: list[Outcome] = []
        timeout = self._policy.task_timeout
        if timeout is None:
            return outcomes
        for worker in self._assignment.workers:
            if worker.silence > timeout and worker.current in worker.tasks:
                worker.kill()
                task = worker.tasks.pop(worker.current)
                where = f" ({worker.place})" if worker.place else ""
                message = f"no sign of life for {timeout:g} seconds (--task-timeout); its worker process was ended{where}"
                outcomes.append(Outcome(task.key, "failed", message))
        return outcomes

    def _release_idle_workers(self) -> None:
        """Let workers end that have had nothing to do for too long: others may need what they hold."""
        timeout = self._policy.idle_timeout
        if timeout is None or self._assignment.has_retries:
            return
        for worker in self._assignment.workers:
            if worker.idle_for(timeout):
                worker.finish()

    def close(self) -> None:
        """Stop all workers. They save their trainings first."""
        for worker in self._assignment.workers:
            worker.stop()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._assignment.workers:
            worker.join(deadline)
        self._assignment.workers.clear()
        self._launcher.close()
