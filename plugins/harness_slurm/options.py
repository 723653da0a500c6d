"""Options of the engine `slurm`, and the arguments of sbatch that they stand for."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

import harness

Name = Annotated[str, StringConstraints(pattern=r"^[\w.,@:&|*()\[\]-]+$")]
_OWN = (
    "--parsable",
    "--job-name",
    "-J",
    "--output",
    "-o",
    "--open-mode",
    "--array",
    "-a",
    "--wrap",
    "--signal",
    "--ntasks",
    "-n",
)
_LIMIT = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def _check_argument(argument: str) -> str:
    if not re.fullmatch(r"--?[A-Za-z][^\n\r\0]*", argument):
        raise ValueError(f"{argument!r} is no argument of sbatch; write --name=value")
    if argument.split("=")[0] in _OWN:
        raise ValueError(f"{argument!r}: the engine sets {argument.split('=')[0]} itself; leave it out")
    return argument


def _check_line(line: str) -> str:
    if not line.strip() or re.search(r"[\n\r\0]", line):
        raise ValueError(f"{line!r} is not one line of a shell script")
    return line


def seconds_of(limit: int | str) -> int | None:
    """Return a time limit of Slurm in seconds: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; None if it is none of these."""
    found = _LIMIT.fullmatch(str(limit))
    if found is None:
        return None
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(numbers) == 3:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    minutes, seconds = [*numbers, 0][:2]
    return minutes * 60 + seconds


class SlurmOptions(harness.Options):
    """Options of the engine `slurm`. Without options it uses the cluster's defaults."""

    jobs: int = Field(8, ge=1, le=10_000, description="the largest number of jobs at a time; each is one worker")
    partition: Name | None = Field(None, description="partition, or several with commas; null: the cluster's default")
    account: Name | None = Field(None, description="account that the jobs are charged to")
    qos: Name | None = Field(None, description="quality of service")
    constraint: Name | None = Field(None, description="features that a node must have")
    gpus: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] | int | None = Field(
        None, description="1, or a type of GPU such as a100: a GPU for each job; null: the CPU"
    )
    cpus: int | None = Field(None, ge=1, le=1024, description="CPUs of each job; null: as many as --threads")
    memory: Annotated[str, StringConstraints(pattern=r"^\d+[KMGT]?$")] | int | None = Field(
        None, description="memory of each job, such as 8G; a number is in MB"
    )
    time_limit: str | int | None = Field(
        None, description="time limit of each job as sbatch takes it (minutes, H:M:S, D-H:M); jobs that reach it are replaced"
    )
    save_before: int = Field(120, ge=1, le=3600, description="seconds before the time limit at which a job saves and ends")
    setup: tuple[Annotated[str, AfterValidator(_check_line)], ...] = Field(
        (), description="lines of shell before the worker starts, such as `module load cuda`"
    )
    extra: tuple[Annotated[str, AfterValidator(_check_argument)], ...] = Field(
        (), description="further arguments of sbatch, such as --exclude=node7"
    )
    start_timeout: float | None = Field(
        None, gt=0, description="seconds that jobs may wait in the queue while none runs, before the run ends; null: for ever"
    )
    task_timeout: float | None = Field(
        None,
        gt=0,
        description="seconds without a sign of life (an epoch, an end) after which a task is ended and fails; null: never",
    )
    idle_timeout: float | None = Field(
        300.0, gt=0, description="seconds without a task after which a job ends, while others work on; null: never"
    )
    run_timeout: float = Field(
        120.0, ge=1, description="seconds without a sign of life of `harness run` after which its jobs save and end"
    )
    status_every: float = Field(15.0, ge=0.1, description="seconds between two questions to squeue")

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if isinstance(self.gpus, int) and self.gpus != 1:
            raise ValueError(f"gpus is {self.gpus}; 1, since each job is one worker on one GPU; ask for more jobs")
        if self.time_limit is None:
            return self
        seconds = seconds_of(self.time_limit)
        if seconds is None:
            raise ValueError(f"time_limit is {self.time_limit!r}; minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S")
        if seconds <= self.save_before:
            raise ValueError(f"time_limit is {seconds} seconds; more than save_before, which is {self.save_before}")
        return self

    def arguments(self, threads: int) -> list[str]:
        """Return the arguments of sbatch for jobs that use a number of threads."""
        arguments = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={self.cpus or threads}"]
        arguments.append(f"--signal=B:USR1@{self.save_before}")
        for name in ("partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            if value is not None:
                arguments.append(f"--{name}={value}")
        if self.gpus is not None:
            kind = "" if isinstance(self.gpus, int) or self.gpus == "1" else f"{self.gpus}:"
            arguments.append(f"--gres=gpu:{kind}1")
        if self.memory is not None:
            arguments.append(f"--mem={self.memory}")
        if self.time_limit is not None:
            arguments.append(f"--time={self.time_limit}")
        return [*arguments, *self.extra]
