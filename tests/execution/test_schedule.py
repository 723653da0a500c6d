"""Schedules of simulated workers, with the real queue and the real pool (`benchmarks/perf/simulate_schedule.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from simulate_schedule import SECONDS, SECONDS_PER_EPOCH, simulate, tasks_of

from harness.api.specs import ProbeSpec
from harness.api.task import Task
from harness.execution.wall_time import wall_time

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "perf" / "simulate_schedule.py"


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    """The tasks of five methods with the paper's recipe and five seeds."""
    return tasks_of(5)[1]


@pytest.mark.parametrize("whole_groups", [False, True])
@pytest.mark.parametrize(("workers", "most"), [(1, 1.0), (4, 1.11), (16, 1.07), (32, 1.01), (200, 1.01)])
def test_schedule_against_its_lower_bound(tasks: dict[str, Task], workers: int, most: float, whole_groups: bool) -> None:
    """It is a few percent longer than the critical path, or than the work divided by the workers."""
    result = simulate(tasks, workers, whole_groups=whole_groups)
    assert result.bound <= result.makespan * 1.000001
    assert result.makespan <= most * result.bound * 1.000001
    assert 0 < result.utilization <= 1.000001


def test_chain_of_swe_bounds_the_schedule(tasks: dict[str, Task]) -> None:
    """It is 550 epochs long; the checks of network and alignment, one prediction and one measurement come on top."""
    result = simulate(tasks, 200)
    assert result.critical_path == 550 * SECONDS_PER_EPOCH + 2 * SECONDS["check"] + SECONDS["predict"] + SECONDS["measure"]


def test_longest_path_first(tasks: dict[str, Task]) -> None:
    """Where the chain bounds the schedule, the order of the plan takes longer by 4 to 12 %."""
    for workers, gain in ((16, 1.1), (32, 1.04)):
        assert simulate(tasks, workers, planned_order=True).makespan > gain * simulate(tasks, workers).makespan


def test_small_graph_on_two_workers() -> None:
    """A chain of 2 + 2 + 2 beside three single tasks of 2 takes 6 epochs, in the pool and in the estimate."""
    pending: dict[str, Task] = {}
    for key, parents in (("x", ""), ("y", ""), ("z", ""), ("a", ""), ("b", "a"), ("c", "b")):
        pending[key] = Task(key, ProbeSpec(token=key, lease=""), tuple(parents), key, 2.0)
    assert simulate(pending, 2).makespan == 6 * SECONDS_PER_EPOCH
    assert wall_time(pending, dict.fromkeys(pending, 2.0), 2, whole_groups=False) == 6


@pytest.mark.parametrize("whole_groups", [False, True])
@pytest.mark.parametrize("workers", [1, 3, 8, 40])
def test_estimate_of_the_plan(tasks: dict[str, Task], workers: int, whole_groups: bool) -> None:
    """The wall time of `harness plan` is that of the pool."""
    seconds = {key: SECONDS[task.kind] + SECONDS_PER_EPOCH * task.cost for key, task in tasks.items()}
    expected = simulate(tasks, workers, whole_groups=whole_groups).makespan
    assert wall_time(tasks, seconds, workers, whole_groups=whole_groups) == pytest.approx(expected, rel=0.02)


def test_script() -> None:
    """It prints a line of JSON for each number of workers."""
    command = [sys.executable, str(SCRIPT), "--seeds", "1", "--workers", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["workers"] for line in lines] == [1, 2]
    assert all(line["cells"] == 5 for line in lines)
