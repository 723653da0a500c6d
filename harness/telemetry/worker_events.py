"""Events of worker processes: when one starts, is ready and ends, what it sees, and what it spends its time on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.telemetry.event import Event


@dataclass(frozen=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process was started. `process` is its process ID; `place` says where, "" for this machine."""

    event: Literal["worker_started"] = "worker_started"
    process: int
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerReady(Event):
    """A worker process has loaded its plugins and is waiting for tasks."""

    event: Literal["worker_ready"] = "worker_ready"
    process: int
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerEnded(Event):
    """A worker process ended with exit code `code`. A negative code is minus the number of the signal that killed it."""

    event: Literal["worker_ended"] = "worker_ended"
    process: int
    code: int
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerDescribed(Event):
    """What a worker sees, as a probe tells it (`harness doctor --engine`). `task` is the probe's key.

    `host` is the name of its machine. `device` and `cpus` describe what it computes with. `data` has the names in its
    `data_root`. `lease_acquired` is True if it got the lease that the probe names.
    """

    event: Literal["worker_described"] = "worker_described"
    task: str
    process: int = field(default_factory=os.getpid)
    place: str = ""
    host: str
    device: str
    cpus: str
    data_root: str
    data: tuple[str, ...]
    lease_acquired: bool


@dataclass(frozen=True, kw_only=True)
class PhasesMeasured(Event):
    """The seconds that a process spent in each phase (training, evaluation, store, ...) since its last such event."""

    event: Literal["phases"] = "phases"
    seconds: Mapping[str, float]
    process: int = field(default_factory=os.getpid)
    place: str = ""
