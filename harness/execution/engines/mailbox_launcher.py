"""Workers on other machines that share a folder with the run: they are reached through mailboxes there."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from harness.api.engine import EngineContext
from harness.errors import HarnessError, UserError
from harness.execution.engines.launcher import Deliver, Exit, ExitCause, Launcher, WorkerHandle
from harness.execution.engines.worker_process import describe_exit, worker_command, worker_variables
from harness.execution.mailbox import Heartbeat, Mailbox, Pause
from harness.execution.stop_signals import asked_to_stop
from harness.execution.worker_messages import Message
from harness.telemetry.events import PhasesMeasured, WorkerDescribed, WorkerEnded, WorkerReady, WorkerStarted
from harness.text import describe_error

_OF_A_PROCESS = (WorkerStarted, WorkerReady, WorkerDescribed, WorkerEnded, PhasesMeasured)


class Channel(Protocol):
    """A way to reach a worker; a `Mailbox` is one. See there."""

    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks."""

    def finish(self) -> None:
        """Ask the worker to exit after its tasks."""

    def stop(self) -> None:
        """Ask the worker to save and exit."""

    def receive(self) -> Sequence[Message]:
        """Return the worker's new messages."""


class MailboxWorker(WorkerHandle):
    """A worker that is reached through a mailbox, or another channel. A subclass knows how to kill it.

    `label` names the worker in events. `exit_code` is what the worker has reported, None before. The launcher's thread calls
    `look` and `end_unseen`, the pool's thread the other methods.
    """

    def __init__(self, label: str, mailbox: Channel, deliver: Deliver) -> None:
        self.label = label
        self.started = False
        self.exit_code: int | None = None
        self._mailbox = mailbox
        self._deliver = deliver
        self._process: int | None = None
        self._ended = threading.Event()

    @property
    def place(self) -> str:
        """The label."""
        return self.label

    @property
    def log(self) -> str:
        """Where to find what the worker said, for a message; what it ended with, if that is known."""
        return "its log says more"

    @property
    def ended(self) -> bool:
        """Whether its end was delivered."""
        return self._ended.is_set()

    def send(self, keys: Sequence[str]) -> None:
        """Write a group of keys into its mailbox."""
        self._mailbox.send(keys)

    def finish(self) -> None:
        """Tell it to exit after its tasks."""
        self._mailbox.finish()

    def stop(self) -> None:
        """Tell it to save and exit."""
        self._mailbox.stop()

    def join(self, deadline: float) -> None:
        """Wait for its end, if it has started; kill it if it has not, or at the deadline."""
        if self.started:
            self._ended.wait(max(0.0, deadline - time.monotonic()))
        if not self.ended:
            self.kill()

    def fail(self, error: HarnessError) -> None:
        """Deliver an error that ends the run."""
        self._deliver(error)

    def look(self) -> bool:
        """Deliver its new messages; return whether there were any."""
        messages = self._mailbox.receive()
        for message in messages:
            self.started = True
            if isinstance(message, WorkerStarted):
                self._process = message.process
            if isinstance(message, _OF_A_PROCESS):
                message = replace(message, place=self.label)
            self._deliver(message)
            if isinstance(message, WorkerEnded):
                self.exit_code = message.code
                self._end_by_itself(message.code)
        return bool(messages)

    def end_unseen(self, reason: str, cause: ExitCause) -> None:
        """Deliver the end of a worker that could not report it, after what it said before."""
        self.look()
        if self.ended:
            return
        if self._process is not None:
            self._deliver(WorkerEnded(process=self._process, code=-signal.SIGKILL, place=self.label))
        self._end(reason, cause)

    def _end_by_itself(self, code: int) -> None:
        """Deliver the end of a worker that has reported its exit code."""
        if asked_to_stop(code):
            self._end(f"{signal.Signals(code - 128).name}, after it had saved", ExitCause.LEFT)
        else:
            self._end(describe_exit(code), ExitCause.LEFT if code == 0 else ExitCause.CRASHED)

    def _end(self, reason: str, cause: ExitCause) -> None:
        self._deliver(Exit(f"{reason} ({self.place})", cause, self.log))
        self._ended.set()


class MailboxLauncher(Launcher):
    """Starts workers that are reached through mailboxes. A subclass defines `begin`, and `watch` if it can see how workers are.

    Mailboxes and scripts are in a new folder in `folder`, which workers must see under the same path. A worker that sees no
    sign of the run for `run_timeout` seconds saves and ends.
    """

    def __init__(self, context: EngineContext, folder: Path, device: str, run_timeout: float) -> None:
        self.context, self.folder = context, folder
        self._device, self._run_timeout = device, run_timeout
        self._mailboxes = folder / time.strftime(f"%Y%m%d-%H%M%S-{time.monotonic_ns() % 10**6:06}")
        try:
            self._mailboxes.mkdir(parents=True)
            self._heartbeat = Heartbeat(self._mailboxes)
        except OSError as error:
            raise UserError(f"{self._mailboxes}: cannot be created: {error.strerror or error}; choose another --out") from None
        self._workers: list[MailboxWorker] = []
        self._count = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @abstractmethod
    def begin(self, index: int, script: Path, mailbox: Mailbox, deliver: Deliver) -> MailboxWorker:
        """Have a script executed that becomes a worker; return the connection. Raise `HarnessError` if that fails.

        `index` is the lowest number that no running worker has.
        """

    def watch(self, workers: Sequence[MailboxWorker]) -> None:
        """Look after the workers that have not ended, in the launcher's thread. Called several times a second."""

    def setup(self) -> Sequence[str]:
        """Return lines of shell for the script, before the worker starts."""
        return ()

    def launch(self, index: int, deliver: Deliver) -> WorkerHandle:
        """Start a worker."""
        self._count += 1
        folder = self._mailboxes / str(self._count)
        try:
            mailbox = Mailbox(folder)
            script = folder / "worker.sh"
            script.write_text(self._script(folder), encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
        worker = self.begin(index, script, mailbox, deliver)
        with self._lock:
            self._workers.append(worker)
        return worker

    def _script(self, folder: Path) -> str:
        """Return a worker's script. The worker replaces the shell, so that signals to the script reach it."""
        variables = {**worker_variables(self.context.threads), "HARNESS_DATA": str(self.context.data.absolute())}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        command = [
            *worker_command(self.context, self._device),
            *("--mailbox", str(folder.absolute()), "--run-timeout", f"{self._run_timeout:g}"),
        ]
        return "\n".join(["#!/bin/bash", *exports, *self.setup(), f"exec {shlex.join(command)}", ""])

    def close(self) -> None:
        """End the thread and the heartbeat."""
        self._closed.set()
        self._thread.join()
        self._heartbeat.close()

    def _read(self) -> None:
        """Deliver the messages of all workers."""
        pause = Pause()
        news = False
        while not self._closed.wait(pause.after(news)):
            with self._lock:
                self._workers = [worker for worker in self._workers if not worker.ended]
                workers = list(self._workers)
            looks = [worker.look() for worker in workers]
            news = any(looks)
            self._watch_safely([worker for worker in workers if not worker.ended])

    def _watch_safely(self, workers: Sequence[MailboxWorker]) -> None:
        try:
            self.watch(workers)
        except Exception as error:  # the run must not wait for a thread that has ended
            for worker in workers:
                worker.fail(error if isinstance(error, HarnessError) else HarnessError(describe_error(error)))
