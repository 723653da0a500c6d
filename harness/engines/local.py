"""The default engine: worker processes on this machine, or this process alone. Knows nothing of graphs.

On the CPU every task has one thread and there are as many workers as cores: networks of this size gain little from a second
thread, siblings gain a core each, and what a task computes does not depend on how many others run. On CUDA there is one worker
for each device.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness import interfaces
from harness.errors import HarnessError, Interrupted
from harness.interfaces import Engine, Session
from harness.task import Outcome, Task


class LocalEngine(Engine):
    """Runs tasks on this machine: in this process with one worker, else in `harness worker` processes."""

    name, version = "local", 1

    class Options(interfaces.Options):
        """Options of the local engine."""

        workers: int | None = Field(
            None, ge=1, le=1024, description="processes; null: one for each CUDA device, or for each core of the CPU"
        )

    def open(self, session: Session) -> None:
        """Count the workers and choose between this process and others, which are started when there is work for them."""
        from harness.worker import resolve_device

        device = resolve_device(session.device)
        workers = self.options.workers or (_cuda_devices() if device == "cuda" else _cores())
        self._backend: _InProcess | _Pool = _InProcess(session) if workers == 1 else _Pool(session, workers, device)

    @property
    def capacity(self) -> int:
        """One task per worker."""
        return self._backend.capacity

    def submit(self, group: Sequence[Task]) -> None:
        """Take a group."""
        self._backend.submit(group)

    def wait(self) -> Sequence[Outcome]:
        """Work, or wait for the first worker that is done with something."""
        return self._backend.wait()

    def close(self) -> None:
        """Stop the workers; what they have under way is saved first."""
        self._backend.close()


def _cuda_devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def _cores() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _InProcess:
    """One group at a time, here."""

    capacity = 1

    def __init__(self, session: Session) -> None:
        from harness.worker import Worker

        self._worker = Worker(session)
        self._groups: deque[Sequence[Task]] = deque()

    def submit(self, group: Sequence[Task]) -> None:
        self._groups.append(group)

    def wait(self) -> Sequence[Outcome]:
        return self._worker.run(self._groups.popleft())

    def close(self) -> None:
        pass


class _Pool:
    """`harness worker` processes that stay until the end. They are told keys on standard input, a line for each piece of work,
    and speak JSON lines on standard output."""

    def __init__(self, session: Session, workers: int, device: str) -> None:
        self.capacity = workers
        self._session, self._device = session, device
        self._waiting: deque[Sequence[Task]] = deque()
        self._workers: list[_Process] = []
        self._ended: queue.Queue[Outcome] = queue.Queue()
        self._open = 0

    def submit(self, group: Sequence[Task]) -> None:
        """Queue a group: whole where its tasks share what is costly, else task by task, for any worker to take."""
        together = self._device == "cuda" or group[0].kind == "measure"
        self._waiting.extend([group] if together else [[task] for task in group])
        self._open += len(group)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting work to idle workers; start another one while there is work and room."""
        self._workers = [worker for worker in self._workers if worker.alive]
        while self._waiting:
            idle = next((worker for worker in self._workers if worker.alive and not worker.tasks), None)
            if idle is None and len(self._workers) < self.capacity:
                taken = {worker.place for worker in self._workers}
                place = next(number for number in range(self.capacity) if number not in taken)
                idle = _Process(self._session, place, self._device, self._ended)
                self._workers.append(idle)
            if idle is None:
                return
            if idle.give(self._waiting[0]):
                self._waiting.popleft()

    def wait(self) -> Sequence[Outcome]:
        if not self._open:
            raise HarnessError("the local engine was asked to wait for nothing")
        while True:
            try:
                outcome = self._ended.get(timeout=0.2)
            except queue.Empty:
                if self._session.stopping():
                    raise Interrupted from None
                continue
            if outcome.status == "interrupted":
                raise Interrupted
            self._open -= 1
            self._hand_out()
            return [outcome]

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join()


class _Process:
    """One worker process and what it has in work."""

    def __init__(self, session: Session, place: int, device: str, ended: queue.Queue[Outcome]) -> None:
        device = f"cuda:{place % _cuda_devices()}" if device == "cuda" else device
        command = [sys.executable, "-m", "harness", "worker", "--stdin", "--json", "--store", str(session.store)]
        command += ["--data", str(session.data), "--device", device, "--threads", str(session.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(session.threads)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment, start_new_session=True, bufsize=1
        )
        self.place = place
        self.tasks: dict[str, Task] = {}
        self.alive = True
        self._lock = threading.Lock()
        self._session, self._ended = session, ended
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def give(self, group: Sequence[Task]) -> bool:
        """Have a group done; return False if the process has ended. What it does not finish is reported by the listener."""
        with self._lock:
            if not self.alive:
                return False
            self.tasks = {task.key: task for task in group}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(" ".join(task.key for task in group) + "\n")
            self._process.stdin.flush()
        return True

    def _listen(self) -> None:
        """Pass the process's events on until it ends; what it had in work then has failed."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = _parse(line)
            if message is None:
                continue
            if message["event"] != "outcome":
                self._session.emit(message)
            elif message["key"] in self.tasks:
                del self.tasks[message["key"]]
                self._ended.put(Outcome(**{k: v for k, v in message.items() if k != "event"}))
        code = self._process.wait()
        with self._lock:
            self.alive = False
        status: Any = "interrupted" if code in (130, 143) else "failed"
        message_text = f"its worker process ended with {_ending(code)} before it was done"
        for key in list(self.tasks):
            del self.tasks[key]
            self._ended.put(Outcome(key, status, message_text))

    def stop(self) -> None:
        """Ask it to end: it saves what it has under way."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if self.tasks:
            self._process.terminate()

    def join(self) -> None:
        """Wait for its end; one that does not end within a minute is killed."""
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(timeout=10)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _parse(line: str) -> dict[str, Any] | None:
    """Return a worker's message; what a plugin prints among them is not one."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "event" in message else None
