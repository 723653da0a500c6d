"""One job of Slurm: a worker that is reached through a mailbox. A job that Slurm requeues is replaced by a new one."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness import engines, events
from harness_slurm import commands
from harness_slurm.commands import JobState

_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_NOT_ITS_FAULT = ("CANCELLED", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED")
_OF_A_PROCESS = (
    events.WorkerStarted,
    events.WorkerReady,
    events.WorkerDescribed,
    events.WorkerEnded,
    events.PhasesMeasured,
)
_UNKNOWN_AFTER = 60.0  # seconds for which squeue may not know a new job
_LAST_LINE = re.compile(r"[^\n]*\S[^\n]*\s*\Z")


class Job(engines.WorkerHandle):
    """The connection to a job. `look` and `update` are called by the launcher's thread, the other methods by the pool's."""

    def __init__(self, job: str, mailbox: engines.Mailbox, log: Path, deliver: engines.Deliver) -> None:
        self.job = job
        self.submitted = time.monotonic()
        self.state = JobState("PENDING")
        self.started = False
        self._mailbox = mailbox
        self._log = log
        self._deliver = deliver
        self._label = f"Slurm job {job}"
        self._process: int | None = None
        self._ended = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether its end was delivered."""
        return self._ended.is_set()

    @property
    def place(self) -> str:
        """The job, its node and its log."""
        node = f" on {self.state.node}" if self.state.node else ""
        return f"{self._label}{node}, log {self._log}"

    def send(self, keys: Sequence[str]) -> None:
        """Write a group of keys into its mailbox."""
        self._mailbox.send(keys)

    def finish(self) -> None:
        """Tell it to exit after its tasks."""
        self._mailbox.finish()

    def stop(self) -> None:
        """Tell it to save and exit."""
        self._mailbox.stop()

    def kill(self) -> None:
        """Cancel it."""
        commands.cancel([self.job])

    def join(self, deadline: float) -> None:
        """Wait for its end, if it has started; cancel it if it has not, or at the deadline."""
        if self.started:
            self._ended.wait(max(0.0, deadline - time.monotonic()))
        if not self.ended:
            self.kill()

    def deliver_error(self, error: commands.SlurmError) -> None:
        """Deliver an error that ends the run."""
        self._deliver(error)

    def look(self) -> bool:
        """Deliver its new messages; return whether there were any."""
        messages = self._mailbox.receive()
        for message in messages:
            self.started = True
            if isinstance(message, events.WorkerStarted):
                self._process = message.process
            if isinstance(message, _OF_A_PROCESS):
                message = replace(message, place=self._label)
            self._deliver(message)
            if isinstance(message, events.WorkerEnded):
                self._end_by_itself(message.code)
        return bool(messages)

    def update(self, state: JobState | None) -> None:
        """Take over the state that squeue prints, None for an unknown job; deliver its end."""
        self.look()  # what it said before it ended
        if self.ended:
            return
        if state is None:
            if time.monotonic() - self.submitted > _UNKNOWN_AFTER:
                self._end_unseen("an end that squeue no longer knows", engines.ExitCause.CRASHED)
            return
        self.state = replace(state, node=state.node or self.state.node)
        if state.state in _QUEUED:
            if self.started:
                self._end_unseen(f"state {state}, requeued by Slurm", engines.ExitCause.LEFT)
                self.kill()  # its tasks go to others
        elif state.state not in _RUNNING:
            cause = engines.ExitCause.LEFT if state.state in _NOT_ITS_FAULT else engines.ExitCause.CRASHED
            self._end_unseen(f"state {state}", cause)

    def _end_by_itself(self, code: int) -> None:
        """Deliver the end of a worker that has reported its exit code."""
        if engines.asked_to_stop(code):
            name = signal.Signals(code - 128).name
            self._end(f"{name}, after it had saved", engines.ExitCause.LEFT)
        elif code == 0:
            self._end("exit code 0", engines.ExitCause.LEFT)
        else:
            self._end(engines.describe_exit(code), engines.ExitCause.CRASHED)

    def _end_unseen(self, reason: str, cause: engines.ExitCause) -> None:
        """Deliver the end of a worker that could not report it."""
        if self._process is not None:
            self._deliver(events.WorkerEnded(process=self._process, code=-signal.SIGKILL, place=self._label))
        self._end(reason, cause)

    def _end(self, reason: str, cause: engines.ExitCause) -> None:
        """Deliver its end."""
        said = self._last_line()
        log = f"{self._log} does not exist: compute nodes must see this folder"
        if said is not None:
            log = f"its log {self._log} ends with: {said}" if said else f"its log {self._log} is empty"
        self._deliver(engines.Exit(f"{reason} ({self.place})", cause, log))
        self._ended.set()

    def _last_line(self) -> str | None:
        """Return the last line of its log that is not blank; None if there is no log."""
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - 2000))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return None
        found = _LAST_LINE.search(text)
        return " ".join(found.group().split())[:300] if found else ""
