"""Starts workers as jobs of Slurm, and asks squeue for their states."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from harness import EngineContext, engines, events
from harness_slurm import commands
from harness_slurm.commands import SlurmError
from harness_slurm.job import Job
from harness_slurm.options import SlurmOptions

_TELL_AFTER = 60.0  # seconds in the queue after which the user is told why
_SILENT_SQUEUE = 600.0  # seconds without an answer of squeue after which the run ends
_FIRST_QUESTION = 1.0  # seconds after the start


class SlurmLauncher(engines.MailboxLauncher):
    """Submits jobs. Their logs are DIR/slurm/<job>.log, scripts and mailboxes in a folder beside them."""

    def __init__(self, context: EngineContext, options: SlurmOptions, device: str) -> None:
        self._options = options
        self._jobs: list[Job] = []
        self._told: set[str] = set()
        self._last_answer = time.monotonic()
        self._next_question = time.monotonic() + min(_FIRST_QUESTION, options.status_every)
        super().__init__(context, context.folder / "slurm", device, options.run_timeout)

    def setup(self) -> Sequence[str]:
        """Return the lines of the option `setup`."""
        return self._options.setup

    def begin(self, index: int, script: Path, mailbox: engines.Mailbox, deliver: engines.Deliver) -> Job:
        """Submit a job."""
        arguments = [
            *self._options.arguments(self.context.threads),
            f"--job-name=harness-{self.context.folder.absolute().name}",
            "--output=" + str(self.folder.absolute()).replace("%", "%%") + "/%j.log",
            "--open-mode=append",
        ]
        job = commands.submit(arguments, script)
        self._jobs.append(Job(job, mailbox, self.folder / f"{job}.log", deliver))
        return self._jobs[-1]

    def close(self) -> None:
        """End the thread, and cancel jobs that were stopped: Slurm may have requeued them."""
        super().close()
        commands.cancel([job.job for job in self._jobs if job.exit_code])

    def watch(self, workers: Sequence[engines.MailboxWorker]) -> None:
        """Ask squeue for the states of the jobs from time to time."""
        jobs = [worker for worker in workers if isinstance(worker, Job)]
        if not jobs or time.monotonic() < self._next_question:
            return
        self._next_question = time.monotonic() + self._options.status_every
        try:
            states = commands.states([job.job for job in jobs])
        except SlurmError as error:
            self._bear_silence(jobs[0], error)
            return
        self._last_answer = time.monotonic()
        for job in jobs:
            job.update(states.get(job.job))
        self._check_queued([job for job in jobs if not job.ended])

    def _bear_silence(self, job: Job, error: SlurmError) -> None:
        """Go on without squeue for some time."""
        self._tell(f"{error}; the jobs work on without it")
        silence = time.monotonic() - self._last_answer
        if silence > _SILENT_SQUEUE:
            job.fail(SlurmError(f"{error}; it has not answered for {silence:.0f} seconds"))

    def _check_queued(self, jobs: Sequence[Job]) -> None:
        """Tell why jobs do not start; end the run if none runs and they have waited for too long."""
        queued = [job for job in jobs if job.state.state == "PENDING"]
        if not queued:
            return
        first = queued[0]
        waited = time.monotonic() - first.submitted
        look = f"`squeue --jobs={first.job} --start` shows more"
        timeout = self._options.start_timeout
        if timeout is not None and waited > timeout and len(queued) == len(jobs):
            problem = f"Slurm job {first.job} did not start within {timeout:g} seconds: {first.state}"
            first.fail(SlurmError(f"{problem}; {look}; ask for less, or raise start_timeout"))
        elif waited > _TELL_AFTER:
            count = f"{len(queued)} Slurm jobs wait" if len(queued) > 1 else "a Slurm job waits"
            self._tell(f"{count} to start: {first.state}; {look}", kind=str(first.state))

    def _tell(self, message: str, kind: str = "") -> None:
        """Warn the user, once per kind of message."""
        if (kind or message) not in self._told:
            self._told.add(kind or message)
            self.context.emit(events.RunWarning(message=message))
