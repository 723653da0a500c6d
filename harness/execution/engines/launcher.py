"""Between a pool, which decides what workers do, and the way workers are started and reached.

A `Launcher` starts workers: as processes of this machine, as jobs of a cluster, as actors. A `WorkerHandle` is the connection
to one of them. The messages of workers are delivered to the pool, from any thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from harness.api.task import Outcome
from harness.errors import HarnessError
from harness.execution.worker_messages import BrokenDevice, Refusal
from harness.telemetry.events import Event


class ExitCause(Enum):
    """Why a worker has ended.

    `CRASHED`: a task that it had begun may be the cause, so each of them is tried once more and then fails. `LEFT`: no task is
    the cause (a time limit before which it saved, a preemption, a lost machine), so other workers continue its tasks.
    `STOPPED`: the whole run was asked to stop, as by a signal to all its processes.
    """

    CRASHED = "crashed"
    LEFT = "left"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Exit:
    """A worker has ended. `reason` completes "its worker process ended with …"; `log` says where to find what it said."""

    reason: str
    cause: ExitCause = ExitCause.CRASHED
    log: str = "what it said stands above"


Delivery: TypeAlias = Event | Outcome | Refusal | BrokenDevice | Exit | HarnessError
"""What a launcher delivers about a worker: its messages, at last an `Exit`, or an error that ends the run."""

Deliver: TypeAlias = Callable[[Delivery], None]
"""May be called from any thread."""


class WorkerHandle(ABC):
    """The connection to one worker, which runs `harness worker` or its equivalent."""

    @property
    def place(self) -> str:
        """Where a worker on another machine runs and logs, for messages about failed tasks; "" on this machine."""
        return ""

    @abstractmethod
    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks by their keys. If it has ended in the meantime, its exit is delivered as usual."""

    @abstractmethod
    def finish(self) -> None:
        """Ask the worker to exit after the tasks that it has. May be called again."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the worker to save the state of its trainings and exit. May be called again."""

    @abstractmethod
    def kill(self) -> None:
        """End the worker at once. Unsaved training is lost."""

    @abstractmethod
    def join(self, deadline: float) -> None:
        """Wait for the worker's end; kill it if it still runs at `deadline` (in seconds of `time.monotonic()`)."""


class Launcher(ABC):
    """Starts workers. It must deliver `WorkerReady` when a worker can do tasks, every later message, and its `Exit`."""

    @abstractmethod
    def launch(self, index: int, deliver: Deliver) -> WorkerHandle:
        """Start a worker and return without waiting for it. `index` is the lowest number that no running worker has.

        Raise `HarnessError` if no worker can be started.
        """

    def device(self, index: int) -> str:
        """Return the device of the workers with a number, as `cuda:1`, if several workers may have it in turn; else "".

        A device that keeps failing is left out.
        """
        return ""

    def close(self) -> None:  # noqa: B027 - most launchers have nothing to release
        """Release what the launcher holds. Called once, after all workers have ended."""
