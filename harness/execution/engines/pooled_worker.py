"""A worker as its pool sees it: the tasks that it was given, those that it has begun, and its last sign of life."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.api.task import Outcome, Task
from harness.errors import HarnessError
from harness.execution.engines.launcher import Delivery, Exit, Launcher
from harness.execution.worker_messages import BrokenDevice, Refusal
from harness.telemetry.events import Event, TaskStarted, TaskWaiting, WorkerReady

News: TypeAlias = Outcome | Refusal | Exit | HarnessError | WorkerReady
"""The deliveries about a worker that its pool acts on. Other events are only passed on."""

_EXIT_SECONDS = 60.0  # for a worker that has nothing to do


@dataclass(frozen=True)
class FromWorker:
    """News of a worker, in the pool's inbox."""

    worker: PooledWorker
    news: News


class PooledWorker:
    """A worker and the tasks that it was given.

    `index` is its number in the pool, `device` that of its launcher. `current` is the key of the task that it began last.
    `broken` says why it can no longer use its device, `refused` that it cannot use the store.
    """

    def __init__(self, index: int, launcher: Launcher, emit: Callable[[Event], None], inbox: queue.Queue[FromWorker]) -> None:
        self.index = index
        self.device = launcher.device(index)
        self.broken: BrokenDevice | None = None
        self.tasks: dict[str, Task] = {}
        self.current = ""
        self.ready = self.stopped = self.refused = False
        self.idle_since = time.monotonic()
        self._begun: set[str] = set()
        self._last_message: float | None = time.monotonic()
        self._emit, self._inbox = emit, inbox
        self._handle = launcher.launch(index, self._receive)

    @property
    def idle(self) -> bool:
        """Whether it has no tasks and can do some."""
        return self.ready and not self.tasks and not self.stopped

    @property
    def starting(self) -> bool:
        """Whether it will be able to do tasks."""
        return not self.ready and not self.stopped

    @property
    def silence(self) -> float:
        """Seconds since its last message; 0 while its task waits for another run."""
        return 0.0 if self._last_message is None else time.monotonic() - self._last_message

    def idle_for(self, seconds: float) -> bool:
        """Whether it has been idle for a time."""
        return self.idle and time.monotonic() - self.idle_since > seconds

    @property
    def begun(self) -> list[Task]:
        """The tasks that it has begun and not reported: several if they are siblings side by side, or reported as a group."""
        return [task for key, task in self.tasks.items() if key in self._begun]

    @property
    def place(self) -> str:
        """Where it runs, for messages; "" on this machine."""
        return self._handle.place

    def give(self, group: Sequence[Task]) -> None:
        """Give it a group of tasks."""
        self.tasks = {task.key: task for task in group}
        self.current = ""
        self._begun = set()
        self._last_message = time.monotonic()
        self._handle.send(list(self.tasks))

    def finish(self) -> None:
        """Ask it to exit after its tasks; it gets no more."""
        if not self.stopped:
            self.idle_since = time.monotonic()
        self.stopped = True
        self._handle.finish()

    def stop(self) -> None:
        """Ask it to exit, after it has saved the state of its trainings if it has tasks."""
        self.finish()
        if self.tasks:
            self._handle.stop()

    def kill(self) -> None:
        """End it at once."""
        self.stopped = True
        self._handle.kill()

    def kill_if_overdue(self) -> None:
        """End it if it was asked to exit long ago, has nothing to do, and has not ended."""
        if self.stopped and not self.tasks and time.monotonic() - self.idle_since > _EXIT_SECONDS:
            self.kill()

    def join(self, deadline: float) -> None:
        """Wait for its end; kill it at `deadline` (in seconds of `time.monotonic()`)."""
        self._handle.join(deadline)

    def _receive(self, delivery: Delivery) -> None:
        self._last_message = None if isinstance(delivery, TaskWaiting) else time.monotonic()
        if isinstance(delivery, TaskStarted):
            self.current = delivery.task
            self._begun.add(delivery.task)
        if isinstance(delivery, BrokenDevice):
            self.broken = delivery
        if isinstance(delivery, Outcome | WorkerReady):
            self.idle_since = time.monotonic()
        if isinstance(delivery, Event):
            self._emit(delivery)
        if isinstance(delivery, News):
            self._inbox.put(FromWorker(self, delivery))
