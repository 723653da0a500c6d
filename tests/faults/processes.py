"""Processes that a test has started: their ids, their workers, and whether they have ended."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any


def pid_of(process: Any) -> int:
    """Return a process's id."""
    assert process.pid is not None
    return process.pid


def workers_of(pid: int) -> list[int]:
    """Return the process ids of a run's workers."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(worker) for worker in found.stdout.split()]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_within(seconds: float, pids: list[int]) -> bool:
    """Wait for processes; return whether all of them end within a time."""
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
