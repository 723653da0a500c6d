"""Starts workers as jobs, and watches them: a thread reads their mailboxes, and asks squeue for their states."""

from __future__ import annotations

import shlex
import threading
import time
from pathlib import Path

from harness import EngineContext, UserError, engines, events
from harness_slurm import commands
from harness_slurm.commands import SlurmError
from harness_slurm.job import Job
from harness_slurm.options import SlurmOptions

_TELL_AFTER = 60.0  # seconds in the queue after which the user is told why
_SILENT_SQUEUE = 600.0  # seconds without an answer of squeue after which the run ends


class SlurmLauncher(engines.Launcher):
    """Submits jobs. Scripts and mailboxes are in a folder of their own under DIR/slurm, logs are DIR/slurm/<job>.log."""

    def __init__(self, context: EngineContext, options: SlurmOptions, device: str) -> None:
        self._context, self._options, self._device = context, options, device
        self.logs = context.folder / "slurm"
        self._folder = self.logs / time.strftime(f"%Y%m%d-%H%M%S-{time.monotonic_ns() % 10**6:06}")
        try:
            self._folder.mkdir(parents=True)
            self._heartbeat = engines.Heartbeat(self._folder)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be created: {error.strerror or error}; choose another --out") from None
        self._jobs: list[Job] = []
        self._count = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._told: set[str] = set()
        self._last_answer = time.monotonic()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def launch(self, index: int, deliver: engines.Deliver) -> engines.WorkerHandle:
        """Submit a job."""
        self._count += 1
        folder = self._folder / str(self._count)
        try:
            mailbox = engines.Mailbox(folder)
            script = folder / "job.sh"
            script.write_text(self._script(folder), encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
        output = str(self.logs.absolute()).replace("%", "%%") + "/%j.log"
        named = [f"--job-name=harness-{self._context.folder.absolute().name}", f"--output={output}", "--open-mode=append"]
        job = commands.submit([*self._options.arguments(self._context.threads), *named], script)
        handle = Job(job, mailbox, self.logs / f"{job}.log", deliver)
        with self._lock:
            self._jobs.append(handle)
        return handle

    def _script(self, folder: Path) -> str:
        """Return a job's script. The worker replaces the shell, so that signals to the batch script reach it."""
        variables = {**engines.worker_variables(self._context.threads), "HARNESS_DATA": str(self._context.data.absolute())}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        command = [
            *engines.worker_command(self._context, self._device),
            *("--mailbox", str(folder.absolute()), "--run-timeout", f"{self._options.run_timeout:g}"),
        ]
        return "\n".join(["#!/bin/bash", *exports, *self._options.setup, f"exec {shlex.join(command)}", ""])

    def close(self) -> None:
        """End the thread and the heartbeat."""
        self._closed.set()
        self._thread.join()
        self._heartbeat.close()

    def _live(self) -> list[Job]:
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.ended]
            return list(self._jobs)

    def _watch(self) -> None:
        pause = engines.Pause()
        news = False
        next_question = time.monotonic() + min(1.0, self._options.status_every)
        while not self._closed.wait(pause.after(news)):
            jobs = self._live()
            looks = [job.look() for job in jobs]
            news = any(looks)
            if jobs and time.monotonic() >= next_question:
                self._ask(jobs)
                next_question = time.monotonic() + self._options.status_every

    def _ask(self, jobs: list[Job]) -> None:
        """Ask squeue for the states of jobs."""
        try:
            states = commands.states([job.job for job in jobs])
        except SlurmError as error:
            silent = time.monotonic() - self._last_answer
            self._tell(f"{error}; the jobs work on without it")
            if silent > _SILENT_SQUEUE:
                jobs[0].deliver_error(SlurmError(f"{error}; for {silent:.0f} seconds"))
            return
        self._last_answer = time.monotonic()
        for job in jobs:
            job.update(states.get(job.job))
        self._check_queued([job for job in jobs if not job.ended])

    def _check_queued(self, jobs: list[Job]) -> None:
        """Tell why jobs do not start; end the run if none runs and they have waited for too long."""
        now = time.monotonic()
        queued = [job for job in jobs if job.state.state == "PENDING"]
        if not queued:
            return
        first = queued[0]
        waited = now - first.submitted
        look = f"`squeue --jobs={first.job} --start` shows more"
        timeout = self._options.start_timeout
        if timeout is not None and waited > timeout and len(queued) == len(jobs):
            problem = f"Slurm job {first.job} did not start within {timeout:g} seconds: {first.state}"
            first.deliver_error(SlurmError(f"{problem}; {look}; ask for less, or raise start_timeout"))
        elif waited > _TELL_AFTER:
            count = f"{len(queued)} Slurm jobs wait" if len(queued) > 1 else "a Slurm job waits"
            self._tell(f"{count} to start: {first.state}; {look}", kind=str(first.state))

    def _tell(self, message: str, kind: str = "") -> None:
        """Warn the user, once per kind of message."""
        if (kind or message) not in self._told:
            self._told.add(kind or message)
            self._context.emit(events.RunWarning(message=message))
