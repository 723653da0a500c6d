"""The default engine: in this process, or in one worker process per device. Knows nothing of graphs."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from harness import interfaces
from harness.errors import HarnessError, Interrupted
from harness.interfaces import Engine, Session
from harness.task import Outcome, Task


class LocalEngine(Engine):
    """Runs tasks on this machine.

    With one worker it runs them in this process. With more, each group goes to a `harness worker` process of its own, on the
    CUDA device of its slot, or on an equal share of the CPU's threads.
    """

    name, version = "local", 1

    class Options(interfaces.Options):
        """Options of the local engine."""

        workers: int | None = Field(None, ge=1, le=1024, description="processes; null: one for each CUDA device, at least one")

    def open(self, session: Session) -> None:
        """Count the workers and choose between this process and others."""
        from harness.worker import resolve_device

        device = resolve_device(session.device)
        workers = self.options.workers or (_cuda_devices() if device == "cuda" else 1)
        self._backend: _InProcess | _Processes = _InProcess(session) if workers == 1 else _Processes(session, workers, device)

    @property
    def capacity(self) -> int:
        """One group per worker."""
        return self._backend.capacity

    def submit(self, group: Sequence[Task]) -> None:
        """Start a group, or keep it until `wait`."""
        self._backend.submit(group)

    def wait(self) -> Sequence[Outcome]:
        """Run what is kept, or wait for the first process that ends."""
        return self._backend.wait()

    def close(self) -> None:
        """Stop what still runs; it saves its state first."""
        self._backend.close()


def _cuda_devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


class _InProcess:
    """One group at a time, here."""

    capacity = 1

    def __init__(self, session: Session) -> None:
        from harness.worker import Worker

        self._worker = Worker(session)
        self._group: Sequence[Task] = ()

    def submit(self, group: Sequence[Task]) -> None:
        self._group = group

    def wait(self) -> Sequence[Outcome]:
        group, self._group = self._group, ()
        return self._worker.run(group)

    def close(self) -> None:
        pass


@dataclass
class _Slot:
    """A place for one process: its number, and the process and tasks in it."""

    number: int
    process: subprocess.Popen[str]
    group: Sequence[Task]


class _Processes:
    """One `harness worker` process per group, up to a number of slots; they speak JSON lines on standard output."""

    def __init__(self, session: Session, workers: int, device: str) -> None:
        self.capacity = workers
        self._session, self._device = session, device
        self._slots: dict[int, _Slot] = {}
        self._ended: queue.Queue[tuple[_Slot, list[Outcome]]] = queue.Queue()

    def submit(self, group: Sequence[Task]) -> None:
        number = next(n for n in range(self.capacity) if n not in self._slots)
        device = f"cuda:{number % _cuda_devices()}" if self._device == "cuda" else self._device
        command = [sys.executable, "-m", "harness", "worker", "--store", str(self._session.store), "--json"]
        command += ["--data", str(self._session.data), "--device", device]
        command += [word for task in group for word in ("--task", task.key)]
        share = max(1, (os.cpu_count() or 1) // self.capacity)
        environment = {**os.environ, "OMP_NUM_THREADS": str(share)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        self._slots[number] = slot = _Slot(number, process, group)
        threading.Thread(target=self._listen, args=(slot,), daemon=True).start()

    def _listen(self, slot: _Slot) -> None:
        """Pass a process's events on until it ends; what it did not report has failed."""
        outcomes: dict[str, Outcome] = {}
        assert slot.process.stdout is not None
        for line in slot.process.stdout:
            message = _parse(line)
            if message is None:
                continue
            if message.get("event") == "outcome":
                outcomes[message["key"]] = Outcome(**{k: v for k, v in message.items() if k != "event"})
            else:
                self._session.emit(message)
        code = slot.process.wait()
        lost = f"the worker process ended with exit code {code} before it was done"
        status: Any = "interrupted" if code in (130, 143) else "failed"
        self._ended.put((slot, [outcomes.get(t.key, Outcome(t.key, status, lost)) for t in slot.group]))

    def wait(self) -> Sequence[Outcome]:
        if not self._slots:
            raise HarnessError("the local engine was asked to wait for nothing")
        while True:
            try:
                slot, outcomes = self._ended.get(timeout=0.2)
            except queue.Empty:
                if self._session.stopping():
                    raise Interrupted from None
                continue
            del self._slots[slot.number]
            if any(outcome.status == "interrupted" for outcome in outcomes):
                raise Interrupted
            return outcomes

    def close(self) -> None:
        for slot in self._slots.values():
            slot.process.terminate()
        for slot in self._slots.values():
            try:
                slot.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                slot.process.kill()


def _parse(line: str) -> dict[str, Any] | None:
    """Return a worker's message; what a plugin prints among them is not one."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "event" in message else None
