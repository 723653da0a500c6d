"""The default engine: worker processes on this machine, or this process alone. Knows nothing of graphs.

On the CPU every task has one thread and there are as many workers as cores, or as a container's CPU quota allows: networks of
this size gain little from a second thread, siblings gain a core each, and what a task computes does not depend on how many
others run. On CUDA there is one worker for each device.

A worker process that ends in the middle of a task (a plugin that exits, a crash, the kernel's out-of-memory killer) takes that
task along only: it is tried once more when nobody else works, and what the process had not begun goes to others.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from harness import interfaces
from harness.code_version import CodeVersion, current_code_version
from harness.engines.cpu_count import count_cpus
from harness.errors import HarnessError, Interrupted, StoreError
from harness.interfaces import Engine, Session
from harness.safe_path import interpreter_arguments
from harness.stop_signals import asked_to_stop, ended_by_stop_signal
from harness.task import Outcome, Task

_PATIENCE = 60.0  # seconds in which a worker that was asked to end must have saved what it has under way


class LocalEngine(Engine):
    """Runs tasks on this machine: in this process with one worker, else in `harness worker` processes."""

    name, version = "local", 1

    _code: CodeVersion | None = None  # that all workers of the run must run

    class Options(interfaces.Options):
        """Options of the local engine."""

        workers: int | None = Field(
            None,
            ge=1,
            le=1024,
            description="processes; null: one for each CUDA device, or for each core, within a container's CPU quota",
        )
        task_timeout: float | None = Field(
            None,
            gt=0,
            description="seconds without a sign of life (an epoch, an end) after which a task is ended and fails; null: never",
        )

    def open(self, session: Session) -> None:
        """Count the workers and choose between this process and others, which are started when there is work for them.

        The choice follows from the options and the machine alone, never from what is left to do: a run that is resumed computes
        as the first one did.
        """
        from harness.device import resolve_device

        device = resolve_device(session.device)
        workers = self.options.workers or (_cuda_devices() if device == "cuda" else count_cpus().usable)
        alone = workers == 1 and self.options.task_timeout is None  # nobody can end a task in its own process
        self._backend: _InProcess | _Pool
        if alone:
            self._backend = _InProcess(session)
        else:
            if self._code is None:  # else opened again, after a damaged object: the run's code is what it was
                self._code = current_code_version(session.catalogue.problems)
            self._backend = _Pool(session, workers, device, self.options.task_timeout, self._code)
        facts = {"engine": self.name, "workers": workers, "device": device, "threads": session.threads}
        message = _choice(workers, alone, device, session.threads)
        session.emit({"event": "engine_opened", "time": time.time(), **facts, "message": message})

    @property
    def wants_work(self) -> bool:
        """As long as a worker is idle."""
        return self._backend.wants_work

    def submit(self, group: Sequence[Task]) -> None:
        """Take a group."""
        self._backend.submit(group)

    def wait(self) -> Sequence[Outcome]:
        """Work, or wait for the first worker that is done with something."""
        return self._backend.wait()

    def close(self) -> None:
        """Stop the workers; what they have under way is saved first."""
        self._backend.close()


def _choice(workers: int, alone: bool, device: str, threads: int) -> str:
    """Say who will do the work, and how siblings are trained there."""
    where = "this process" if alone else f"{workers} worker process{'es' if workers > 1 else ''}"
    each = f"{threads} CPU thread{'s' if threads > 1 else ''}{'' if alone else ' each'}"
    if device == "cuda":
        return f"{where} on CUDA, siblings side by side on a device"
    return f"{where}, {each}, siblings {'one after another' if workers == 1 else 'on a core each'}"


def _cuda_devices() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker process: this one's, a number of CPU threads, and memory that is kept once it is had.

    glibc gives a step's activations back to the system and asks for them again in the next one, page by page: up to a fifth
    of a step's time. Other C libraries do not know the two names; what the user has set stands.
    """
    kept = {"MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_MMAP_THRESHOLD_": str(2**30)}  # all that is freed, blocks below 1 GiB
    return {**kept, **os.environ, "OMP_NUM_THREADS": str(threads)}


class _InProcess:
    """One group at a time, here."""

    def __init__(self, session: Session) -> None:
        from harness.worker import Worker

        self._worker = Worker(session)
        self._groups: deque[Sequence[Task]] = deque()

    @property
    def wants_work(self) -> bool:
        return not self._groups

    def submit(self, group: Sequence[Task]) -> None:
        self._groups.append(group)

    def wait(self) -> Sequence[Outcome]:
        return self._worker.run(self._groups.popleft())

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class _Message:
    """What a worker process said, or that it has ended (`event` is then "ended")."""

    worker: _Process
    event: str
    facts: dict[str, Any]


class _Pool:
    """`harness worker` processes that stay until the end. They are told keys on standard input, a line for each piece of work,
    and speak JSON lines on standard output.

    What they say is read by a thread each, which only passes it on; everything is decided in `wait`.
    """

    def __init__(self, session: Session, workers: int, device: str, timeout: float | None, code: CodeVersion) -> None:
        self._limit = workers
        self._session, self._device, self._timeout, self._code = session, device, timeout, code
        self._waiting: deque[Sequence[Task]] = deque()
        self._workers: list[_Process] = []
        self._inbox: queue.Queue[_Message] = queue.Queue()
        self._lost: Counter[str] = Counter()  # how often a task's process ended under it
        self._alone: deque[Task] = deque()  # to be tried once more, while nobody else needs memory
        self._alone_now: _Process | None = None
        self._open = 0

    @property
    def wants_work(self) -> bool:
        alone = self._alone_now is not None and bool(self._alone_now.tasks)
        return not alone and not self._waiting and sum(bool(worker.tasks) for worker in self._workers) < self._limit

    def submit(self, group: Sequence[Task]) -> None:
        """Queue a group: whole where its tasks share what is costly, else task by task, for any worker to take."""
        together = self._device == "cuda" or group[0].kind == "measure"
        self._waiting.extend([group] if together else [[task] for task in group])
        self._open += len(group)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give waiting work to idle workers; when there is none left and nobody works, a task that is to be done alone."""
        if self._alone_now is not None and self._alone_now.tasks:
            return
        while self._waiting:
            worker = self._idle()
            if worker is None:
                return
            worker.give(self._waiting.popleft())
        if self._alone and not any(worker.tasks for worker in self._workers):
            self._alone_now = self._idle()
            if self._alone_now is not None:
                self._alone_now.give([self._alone.popleft()])

    def _idle(self) -> _Process | None:
        """Return an idle worker, started now if there is room for one."""
        idle = next((worker for worker in self._workers if worker.idle), None)
        if idle is None and len(self._workers) < self._limit:
            taken = {worker.place for worker in self._workers}
            place = next(number for number in range(self._limit) if number not in taken)
            idle = _Process(self._session, place, self._device, self._code, self._inbox)
            self._workers.append(idle)
        return idle

    def wait(self) -> Sequence[Outcome]:
        if not self._open:
            raise HarnessError("the local engine was asked to wait for nothing")
        while True:
            if self._session.stopping():
                raise Interrupted
            try:
                outcomes = self._take(self._inbox.get(timeout=0.2))
            except queue.Empty:
                outcomes = self._overdue()
            self._hand_out()
            if outcomes:
                self._open -= len(outcomes)
                return outcomes

    def _take(self, message: _Message) -> list[Outcome]:
        """Act on what a worker says; return what it means for tasks."""
        worker, facts = message.worker, message.facts
        if message.event == "store_refused":
            raise StoreError(facts["message"])
        if message.event == "code_refused":
            raise HarnessError(facts["message"])
        if message.event == "ended":
            self._workers.remove(worker)
            return self._bury(worker, facts["code"])
        if message.event == "outcome" and facts["key"] in worker.tasks:
            outcome = Outcome(**facts)
            if outcome.status == "interrupted":
                raise Interrupted
            del worker.tasks[outcome.key]
            if outcome.status == "failed" and outcome.traceback:
                worker.stop()  # what a plugin left behind there (memory, settings) is not for others
            return [outcome]
        return []

    def _bury(self, worker: _Process, code: int) -> list[Outcome]:
        """Find others for the work of a process that has ended; only the task under way may be to blame."""
        if worker.tasks and not worker.stopped and _stopped_on_request(worker, code):
            raise Interrupted
        if not worker.ready and not worker.stopped:
            raise HarnessError(f"a worker process did not start: {_ending(code)}; what it said stands above")
        if not worker.tasks:
            return []
        current = worker.tasks.pop(worker.current, None)
        if worker.tasks:
            self._waiting.appendleft(list(worker.tasks.values()))
        if current is None:
            return []
        self._lost[current.key] += 1
        message = f"its worker process ended with {_ending(code)} before it was done"
        if self._lost[current.key] > 1:
            return [Outcome(current.key, "failed", f"{message}, twice")]
        facts = {"task": current.key, "kind": current.kind, "message": f"{message}; tried once more, alone"}
        self._session.emit({"event": "tried_again", "time": time.time(), **facts})
        self._alone.append(current)
        return []

    def _overdue(self) -> list[Outcome]:
        """End the processes that have not given a sign of life for too long."""
        outcomes = []
        for worker in self._workers:
            if self._timeout is not None and worker.silence > self._timeout and worker.current in worker.tasks:
                worker.kill()
                task = worker.tasks.pop(worker.current)
                message = f"no sign of life for {self._timeout:g} seconds (--task-timeout); its worker process was ended"
                outcomes.append(Outcome(task.key, "failed", message))
        return outcomes

    def close(self) -> None:
        for worker in self._workers:
            worker.stop(at_once=True)
        deadline = time.monotonic() + _PATIENCE
        for worker in self._workers:
            worker.join(deadline)


class _Process:
    """One worker process and what it has in work."""

    def __init__(self, session: Session, place: int, device: str, code: CodeVersion, inbox: queue.Queue[_Message]) -> None:
        device = f"cuda:{place % _cuda_devices()}" if device == "cuda" else device
        command = [sys.executable, *interpreter_arguments(), "-m", "harness", "worker", "--stdin", "--json"]
        command += ["--store", str(session.store), "--data", str(session.data)]
        command += ["--device", device, "--threads", str(session.threads)]
        command += ["--parent", str(os.getpid()), "--run-code", code.to_json()]
        environment = worker_environment(session.threads)
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        except OSError as error:
            raise HarnessError(f"a worker process cannot be started: {sys.executable}: {error.strerror or error}") from None
        self.place = place
        self.tasks: dict[str, Task] = {}
        self.current = ""  # the task that it has begun last
        self.ready = self.stopped = False
        self._heard: float | None = time.monotonic()
        self._session, self._inbox = session, inbox
        self._say("worker_started")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        threading.Thread(target=self._reap, daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether it can be given work."""
        return not self.tasks and not self.stopped

    @property
    def silence(self) -> float:
        """Seconds since it last said something; none while it waits for another run."""
        return 0.0 if self._heard is None else time.monotonic() - self._heard

    def give(self, group: Sequence[Task]) -> None:
        """Have a group done. If the process has ended meanwhile, it will be said to have."""
        self.tasks, self.current = {task.key: task for task in group}, ""
        self._heard = time.monotonic()
        self._tell(" ".join(self.tasks) + "\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def _listen(self) -> None:
        """Pass on what the process says, until it ends."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for message in filter(None, map(_parse, lines)):
                self._hear(message)
        code = self._process.wait()
        self._say("worker_ended", code=code)
        self._inbox.put(_Message(self, "ended", {"code": code}))

    def _say(self, event: str, **facts: Any) -> None:
        self._session.emit({"event": event, "process": self._process.pid, "time": time.time(), **facts})

    def _reap(self) -> None:
        """End what the process leaves running when it has ended: a plugin's children would keep its standard output open."""
        self._process.wait()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)  # its session's, see start_new_session

    def _hear(self, message: dict[str, Any]) -> None:
        event = message["event"]
        self._heard = None if event == "waiting" else time.monotonic()
        if event == "worker_ready":
            self.ready = True
            self._say(event)
        elif event in ("outcome", "store_refused", "code_refused"):
            self._inbox.put(_Message(self, event, {k: v for k, v in message.items() if k != "event"}))
        else:
            if event == "task_started":
                self.current = message["task"]
            self._session.emit(message)

    def stop(self, at_once: bool = False) -> None:
        """Ask it to end when it is done with what it has, or at once: then it saves what it has under way."""
        self.stopped = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if at_once and self.tasks:
            self._process.terminate()

    def kill(self) -> None:
        """End it; what it has under way is lost as far as it has not been saved."""
        self.stop()
        self._process.kill()

    def join(self, deadline: float) -> None:
        """Wait for its end; one that takes too long is killed."""
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._thread.join(timeout=10)


def _stopped_on_request(worker: _Process, code: int) -> bool:
    """Say whether a worker ended since it was sent a stop signal: a scheduler may signal every process of a job."""
    return asked_to_stop(code) or (not worker.ready and ended_by_stop_signal(code))


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a worker's message; anything else on its standard output is not one."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("event"), str) else None
