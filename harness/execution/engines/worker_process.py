"""Workers as processes of this machine: keys on standard input, a group on each line, and JSON lines on standard output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from harness.api.engine import EngineContext
from harness.errors import HarnessError
from harness.execution.engines.launcher import Deliver, Exit, ExitCause, Launcher, WorkerHandle
from harness.execution.stop_signals import asked_to_stop, ended_by_stop_signal
from harness.execution.worker_messages import parse_message
from harness.startup.safe_path import interpreter_arguments
from harness.telemetry.events import WorkerEnded, WorkerReady, WorkerStarted

_JOIN_SECONDS = 10.0  # time for the thread that reads the remaining output of an ended process


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a worker process: this process's, and those of `worker_variables`.

    Values that the user has set take precedence, except the number of threads, which results depend on.
    """
    variables = worker_variables(threads)
    return {**variables, **os.environ, "OMP_NUM_THREADS": variables["OMP_NUM_THREADS"]}


def worker_variables(threads: int) -> dict[str, str]:
    """Return what a worker process needs in its environment: the number of CPU threads, and two variables of glibc.

    By default, glibc returns the memory of a step's activations to the system, and requests it again in the next step. This
    takes up to a fifth of a step's time. With these variables glibc keeps freed memory. Other C libraries ignore both of them.
    """
    keep_freed_memory = {"MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    return {**keep_freed_memory, "OMP_NUM_THREADS": str(threads)}


def worker_command(context: EngineContext, device: str) -> list[str]:
    """Return the command that starts a worker with the interpreter and the code of this run, without the way to reach it."""
    return [
        *(sys.executable, *interpreter_arguments(), "-m", "harness", "worker", "--json"),
        *("--store", str(context.store.absolute()), "--device", device),
        *("--threads", str(context.threads), "--run-code", context.code),
    ]


class ProcessLauncher(Launcher):
    """Starts worker processes. `devices` are theirs, by their numbers."""

    def __init__(self, context: EngineContext, devices: Sequence[str]) -> None:
        self._context = context
        self._devices = devices

    def launch(self, index: int, deliver: Deliver) -> WorkerHandle:
        """Start a worker process."""
        return WorkerProcess(self._context, self._devices[index], deliver)

    def device(self, index: int) -> str:
        """Return the device of a worker."""
        return self._devices[index]


class WorkerProcess(WorkerHandle):
    """A worker process. A thread reads its output and delivers its messages."""

    def __init__(self, context: EngineContext, device: str, deliver: Deliver) -> None:
        self._deliver = deliver
        self._ready = False
        self._process = _start(context, device)
        deliver(WorkerStarted(process=self._process.pid))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._end_children, daemon=True).start()

    def send(self, keys: Sequence[str]) -> None:
        """Write a line with the keys."""
        line = " ".join(keys) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def finish(self) -> None:
        """Close its standard input."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def stop(self) -> None:
        """Send it SIGTERM."""
        self.finish()
        self._process.terminate()

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.finish()
        self._process.kill()

    def join(self, deadline: float) -> None:
        """Wait for its exit; kill it at `deadline`."""
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(timeout=_JOIN_SECONDS)

    def _read(self) -> None:
        """Deliver the process's messages until it ends, and how it ended."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                message = parse_message(line)
                if message is not None:
                    self._ready |= isinstance(message, WorkerReady)
                    self._deliver(message)
        code = self._process.wait()
        self.finish()  # closes the pipe
        self._deliver(WorkerEnded(process=self._process.pid, code=code))
        cause = ExitCause.STOPPED if self._stopped_on_request(code) else ExitCause.CRASHED
        self._deliver(Exit(describe_exit(code), cause))

    def _stopped_on_request(self, code: int) -> bool:
        """Return whether a stop signal ended the process. A scheduler may send one to every process of a job."""
        return asked_to_stop(code) or (not self._ready and ended_by_stop_signal(code))

    def _end_children(self) -> None:
        """After the process has ended, kill its children: a plugin's child would keep its standard output open."""
        self._process.wait()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the group of its own session


def describe_exit(code: int) -> str:
    """Return `exit code 3`, or `signal 9` for a negative code."""
    if code < 0:
        return f"signal {-code}"
    return f"exit code {code}"


def _start(context: EngineContext, device: str) -> subprocess.Popen[bytes]:
    command = [
        *worker_command(context, device),
        *("--stdin", "--data", str(context.data), "--parent", str(os.getpid())),
    ]
    environment = worker_environment(context.threads)
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
    except OSError as error:
        raise HarnessError(f"a worker process cannot be started: {sys.executable}: {error.strerror or error}") from None
