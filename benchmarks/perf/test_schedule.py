"""Measure the scheduling of 10,000 cells on up to 1,000 workers: overhead per task, and the schedule against its lower bound.

Workers are simulated (`simulate_schedule.py`); docs/performance.md has the results.
"""

from __future__ import annotations

import pytest
from simulate_schedule import simulate, tasks_of


@pytest.mark.parametrize("workers", [1, 10, 100, 1000])
def test_ten_thousand_cells(benchmark, workers):
    """Scheduling takes less than twice as long per task as for half the cells; the schedule is 2 % above the bound at most."""
    half = simulate(tasks_of(1000)[1], workers)
    cells, tasks = tasks_of(2000)
    results = []
    benchmark.pedantic(lambda: results.append(simulate(tasks, workers, cells)), rounds=1)
    whole = results[0]
    benchmark.extra_info.update(
        cells=cells,
        tasks=whole.tasks,
        milliseconds_per_task=whole.milliseconds_per_task,
        milliseconds_per_task_of_half=half.milliseconds_per_task,
        utilization=whole.utilization,
        makespan_by_bound=whole.makespan / whole.bound,
    )
    assert cells == 10_000
    assert whole.milliseconds_per_task < 2 * half.milliseconds_per_task
    assert whole.makespan < 1.02 * whole.bound
