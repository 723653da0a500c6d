"""One job of Slurm: a worker that is reached through a mailbox. A job that Slurm requeues is replaced by a new one."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from harness import engines
from harness_slurm import commands
from harness_slurm.commands import JobState

_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_NOT_ITS_FAULT = ("CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED")
_UNKNOWN_AFTER = 60.0  # seconds for which squeue may not know a new job


class Job(engines.MailboxWorker):
    """The connection to a job."""

    def __init__(self, job: str, mailbox: engines.Mailbox, log: Path, deliver: engines.Deliver) -> None:
        super().__init__(f"Slurm job {job}", mailbox, deliver)
        self.job = job
        self.submitted = time.monotonic()
        self.state = JobState("PENDING")
        self._log = log

    @property
    def place(self) -> str:
        """The job, its node and its log."""
        node = f" on {self.state.node}" if self.state.node else ""
        return f"{self.label}{node}, log {self._log}"

    @property
    def log(self) -> str:
        """The last line of its log."""
        if not self._log.exists():
            return f"its log {self._log} does not exist: compute nodes must see this folder"
        return engines.describe_log(self._log)

    def kill(self) -> None:
        """Cancel it."""
        commands.cancel([self.job])

    def update(self, state: JobState | None) -> None:
        """Take over the state that squeue prints, None for an unknown job; deliver its end."""
        if state is None:
            if time.monotonic() - self.submitted > _UNKNOWN_AFTER:
                self.end_unseen("an end that squeue no longer knows", engines.ExitCause.CRASHED)
            return
        self.state = replace(state, node=state.node or self.state.node)
        if state.state in _QUEUED:
            if self.started:
                self.end_unseen(f"state {state}, requeued by Slurm", engines.ExitCause.LEFT)
                self.kill()  # its tasks go to others
        elif state.state not in _RUNNING:
            cause = engines.ExitCause.LEFT if state.state in _NOT_ITS_FAULT else engines.ExitCause.CRASHED
            self.end_unseen(f"state {state}", cause)
