"""Slurm's commands: submit a job, ask for the states of jobs, cancel jobs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import UserError

COMMANDS = ("sbatch", "squeue", "scancel")
_SECONDS = 60.0  # for an answer of the controller
_TRANSIENT = re.compile(r"unable to contact|timed out|connection refused|try again|temporarily", re.IGNORECASE)
_RETRY_AFTER = (2.0, 8.0)  # seconds
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


class SlurmError(UserError):
    """A command of Slurm failed. The message is one line."""


@dataclass(frozen=True)
class JobState:
    """A job's state as squeue prints it (`PENDING`), the reason (`Resources`), and the node that it runs or ran on."""

    state: str
    reason: str = ""
    node: str = ""

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason not in ("", "None") else self.state


def require_commands() -> None:
    """Raise `UserError` if Slurm's commands are not in PATH."""
    for command in COMMANDS:
        if shutil.which(command) is None:
            where = "start `harness run` on a machine of a Slurm cluster, such as its login node, or use --engine local"
            raise UserError(f"engine 'slurm': the command {command} is not in PATH; {where}")


def submit(arguments: Sequence[str], script: Path) -> str:
    """Submit a job; return its ID. A controller that does not answer is asked again. Raise `SlurmError`."""
    command = ["sbatch", "--parsable", *arguments, str(script)]
    for seconds in _RETRY_AFTER:
        try:
            return _job_id(_output(command))
        except SlurmError as error:
            if not _TRANSIENT.search(str(error)):
                raise
        time.sleep(seconds)
    return _job_id(_output(command))


def _job_id(output: str) -> str:
    """Return the ID in the output `123` or `123;cluster`."""
    job = output.strip().splitlines()[-1].split(";")[0] if output.strip() else ""
    if not job.isdecimal():
        raise SlurmError(f"sbatch: expected a job ID, it printed {output.strip()!r:.200}")
    return job


def states(jobs: Sequence[str]) -> dict[str, JobState]:
    """Return the states of jobs by ID; jobs that ended some minutes ago are missing. Raise `SlurmError`."""
    listed = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%N", f"--jobs={','.join(jobs)}"]
    try:
        output = _output(listed)
    except SlurmError as error:
        if "invalid job id" in str(error).lower():
            return {}
        raise
    found = {}
    for line in output.splitlines():
        job, state, reason, node = [*line.strip().split("|"), "", "", ""][:4]
        found[job] = JobState(state, reason, node)
    return found


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs, running ones by SIGTERM and some time later SIGKILL. Jobs that have ended stay as they are."""
    if jobs:
        try:
            _output(["scancel", *jobs])
        except SlurmError:
            return  # the runner's heartbeat ends; so do the jobs


def _output(command: Sequence[str]) -> str:
    """Return what a command prints. Raise `SlurmError` with its message in one line."""
    name = command[0]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        look = "`scontrol ping` tells whether the controller answers"
        raise SlurmError(f"{name}: timed out after {_SECONDS:g} seconds; {look}") from None
    except OSError as error:
        raise SlurmError(f"{name}: cannot be started: {error.strerror or error}") from None
    if done.returncode:
        raise SlurmError(_message(name, done.stderr, done.returncode))
    return done.stdout


def _message(name: str, errors: str, code: int) -> str:
    """Return what a command says about its failure, without its own name: `sbatch: invalid partition specified: x`."""
    lines = [re.sub(rf"^{name}: (error: )?", "", line).strip() for line in errors.splitlines()]
    said = "; ".join(dict.fromkeys(line for line in lines if line))
    return f"{name}: {said or f'exit code {code}'}"


def _environment() -> dict[str, str]:
    """Return the environment without the variables of the job that this process may run in: its own jobs would inherit them."""
    found = {}
    for name, value in os.environ.items():
        if not name.startswith("SLURM_") or name in _OF_THE_CLUSTER:
            found[name] = value
    return found
