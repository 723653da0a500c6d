"""Engines satisfy their contract, as `harness.testing` checks it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.execution.engines.local import LocalEngine
from harness.telemetry.events import WorkerStarted
from harness.testing import check_engine


def kill(worker: WorkerStarted) -> None:
    """Kill a worker on this machine."""
    os.kill(worker.process, signal.SIGKILL)


def test_in_process(tmp_path: Path) -> None:
    """One worker does its tasks in this process, and with a timeout in another one."""
    check_engine(LocalEngine, tmp_path, {"workers": 1})


def test_size_of_groups(tmp_path: Path) -> None:
    """An engine takes at least one task of a group, and at most those that are ready."""

    class Greedy(LocalEngine):
        name = "greedy"

        def group_size(self, ready: int, groups: int) -> int:
            return ready + 1

    with pytest.raises(AssertionError, match=r"^greedy: group_size\(3, 1\) is 4; 1 to 3 is expected"):
        check_engine(Greedy, tmp_path, {"workers": 1})


@pytest.mark.slow
def test_worker_processes(tmp_path: Path) -> None:
    """Worker processes may be killed."""
    check_engine(LocalEngine, tmp_path, {"workers": 2}, kill)
