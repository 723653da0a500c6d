"""One `harness worker` process: reads keys on standard input, one line per group, and writes JSON lines to standard output."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.api.engine import EngineContext
from harness.api.task import Outcome, Task
from harness.errors import HarnessError
from harness.execution.worker_messages import BrokenDevice, Refusal, parse_message
from harness.startup.safe_path import interpreter_arguments
from harness.telemetry.events import Event, TaskStarted, TaskWaiting, WorkerEnded, WorkerReady, WorkerStarted

_JOIN_SECONDS = 10.0  # time for the thread that reads the remaining output of an ended process


@dataclass(frozen=True)
class Exit:
    """A worker process has ended. A negative code is minus the number of the signal that killed it."""

    code: int


@dataclass(frozen=True)
class FromWorker:
    """A message of a worker process for its pool."""

    worker: WorkerProcess
    message: Outcome | Refusal | BrokenDevice | Exit


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a worker process: this process's, the number of CPU threads, and two of glibc.

    By default, glibc returns the memory of a step's activations to the system, and requests it again in the next step. This
    takes up to a fifth of a step's time. With these variables glibc keeps freed memory. Values that the user has set take
    precedence. Other C libraries ignore both variables.
    """
    keep_freed_memory = {"MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    return {**keep_freed_memory, **os.environ, "OMP_NUM_THREADS": str(threads)}


class WorkerProcess:
    """A worker process and the tasks that it was given.

    `index` is its number in the pool. `current` is the key of the task that it began last. A thread reads the process's
    output: it emits events, and puts other messages into the pool's inbox.
    """

    def __init__(self, context: EngineContext, index: int, device: str, inbox: queue.Queue[FromWorker]) -> None:
        self.index = index
        self.device = device
        self.broken: BrokenDevice | None = None  # set by the pool when the process has reported it
        self.tasks: dict[str, Task] = {}
        self.current = ""
        self._begun: set[str] = set()
        self.ready = self.stopped = False
        self._last_message: float | None = time.monotonic()
        self._context, self._inbox = context, inbox
        self._process = _start(context, device)
        self._context.emit(WorkerStarted(process=self._process.pid))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._end_children, daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether it has no tasks and can be given some."""
        return not self.tasks and not self.stopped

    @property
    def silence(self) -> float:
        """Seconds since its last message; 0 while its task waits for another run."""
        return 0.0 if self._last_message is None else time.monotonic() - self._last_message

    @property
    def begun(self) -> list[Task]:
        """The tasks that it has begun and not reported: several if they are siblings side by side, or reported as a group."""
        return [task for key, task in self.tasks.items() if key in self._begun]

    def give(self, group: Sequence[Task]) -> None:
        """Give it a group of tasks. If the process has ended in the meantime, its exit is reported as usual."""
        self.tasks = {task.key: task for task in group}
        self.current = ""
        self._begun = set()
        self._last_message = time.monotonic()
        line = " ".join(self.tasks) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def stop(self, at_once: bool = False) -> None:
        """Ask it to exit: after its tasks, or at once, after it has saved the state of its trainings."""
        self.stopped = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if at_once and self.tasks:
            self._process.terminate()

    def kill(self) -> None:
        """Kill it. Unsaved training is lost."""
        self.stop()
        self._process.kill()

    def join(self, deadline: float) -> None:
        """Wait for its exit; kill it if it is still running at `deadline` (in seconds of `time.monotonic()`)."""
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(timeout=_JOIN_SECONDS)

    def _read(self) -> None:
        """Handle the process's messages until it ends."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                message = parse_message(line)
                if message is not None:
                    self._handle(message)
        code = self._process.wait()
        self._context.emit(WorkerEnded(process=self._process.pid, code=code))
        self._inbox.put(FromWorker(self, Exit(code)))

    def _handle(self, message: Event | Outcome | Refusal | BrokenDevice) -> None:
        self._last_message = None if isinstance(message, TaskWaiting) else time.monotonic()
        if isinstance(message, Outcome | Refusal | BrokenDevice):
            self._inbox.put(FromWorker(self, message))
            return
        if isinstance(message, WorkerReady):
            self.ready = True
        elif isinstance(message, TaskStarted):
            self.current = message.task
            self._begun.add(message.task)
        self._context.emit(message)

    def _end_children(self) -> None:
        """After the process has ended, kill its children: a plugin's child would keep its standard output open."""
        self._process.wait()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the group of its own session


def _start(context: EngineContext, device: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, *interpreter_arguments(), "-m", "harness", "worker", "--stdin", "--json"),
        *("--store", str(context.store), "--data", str(context.data)),
        *("--device", device, "--threads", str(context.threads)),
        *("--parent", str(os.getpid()), "--run-code", context.code),
    ]
    environment = worker_environment(context.threads)
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
    except OSError as error:
        raise HarnessError(f"a worker process cannot be started: {sys.executable}: {error.strerror or error}") from None
