"""Simulate the schedule of a large benchmark on 1 to 1,000 workers: scheduling overhead per task, and utilization.

The graph, the queue of tasks, the pool and its assignment are the real ones. Workers are stand-ins, and time is that of a
virtual clock: a task ends when the clock reaches its end, and the clock goes on when nothing else is to be done. Processor time
is that of everything except planning, the stand-ins included.

    python benchmarks/perf/simulate_schedule.py                      # 10,000 cells: 5 methods, 2,000 seeds
    python benchmarks/perf/simulate_schedule.py --seeds 5 --workers 8 32

docs/performance.md has the results.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import itertools
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from harness import EngineContext, Outcome, Task, engines
from harness.benchmark import load_benchmark
from harness.execution.queue import TaskQueue
from harness.execution.run_plan import RunPlan
from harness.plan.longest_path import remaining_paths
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness.telemetry.events import Event, WorkerReady

METHODS = ["deep", {"constrained": {"fork_epoch": 10}}, "swe", "permuted", {"distilled": {"fork_epoch": 10}}]
EPOCHS = 110

SECONDS_PER_EPOCH = 10.0
SECONDS = {"check": 2.0, "train": 0.0, "derive": 30.0, "predict": 2.0, "measure": 20.0, "probe": 0.0}
"""Seconds of a task in addition to its epochs, by kind."""


@dataclass(frozen=True)
class Simulated:
    """One simulated run. `milliseconds_per_task` is processor time; the other times are of the virtual clock, in seconds.

    `bound` is the larger one of the critical path and the work divided by the workers: no schedule is shorter.
    """

    workers: int
    cells: int
    tasks: int
    milliseconds_per_task: float
    makespan: float
    bound: float
    critical_path: float
    utilization: float


class VirtualClock:
    """The ends of tasks in virtual time, and what workers have delivered but the pool has not handled."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ends: list[tuple[float, int, engines.Deliver, Outcome]] = []
        self._sequence = itertools.count()
        self._unhandled = 0

    def deliver(self, deliver: engines.Deliver, delivery: engines.Delivery) -> None:
        """Deliver something to the pool now."""
        self._unhandled += 1
        deliver(delivery)

    def schedule(self, end: float, deliver: engines.Deliver, outcome: Outcome) -> None:
        """Deliver an outcome at a time."""
        heapq.heappush(self._ends, (end, next(self._sequence), deliver, outcome))

    def stopping(self) -> bool:
        """Let time pass if the pool has nothing to handle. The pool asks before it handles one delivery."""
        if not self._unhandled:
            self.now, _, deliver, outcome = heapq.heappop(self._ends)
            self.deliver(deliver, outcome)
        self._unhandled -= 1
        return False


class VirtualWorker(engines.WorkerHandle):
    """A worker that takes as long for its tasks as they are said to take. They end together, as siblings side by side."""

    def __init__(self, clock: VirtualClock, seconds: Mapping[str, float], deliver: engines.Deliver) -> None:
        self._clock = clock
        self._seconds = seconds
        self._deliver = deliver

    def send(self, keys: Sequence[str]) -> None:
        """Schedule the ends of tasks."""
        end = self._clock.now + sum(self._seconds[key] for key in keys)
        for key in keys:
            self._clock.schedule(end, self._deliver, Outcome(key, "done"))

    def finish(self) -> None:
        """Do nothing."""

    stop = kill = finish

    def join(self, deadline: float) -> None:
        """Do nothing."""


class VirtualLauncher(engines.Launcher):
    """Starts stand-ins, which are ready at once."""

    def __init__(self, clock: VirtualClock, seconds: Mapping[str, float]) -> None:
        self._clock = clock
        self._seconds = seconds

    def launch(self, index: int, deliver: engines.Deliver) -> engines.WorkerHandle:
        """Start a stand-in."""
        self._clock.deliver(deliver, WorkerReady(process=index))
        return VirtualWorker(self._clock, self._seconds, deliver)


def tasks_of(seeds: int) -> tuple[int, dict[str, Task]]:
    """Return the number of cells, five per seed, and the tasks of a run of them from an empty store."""
    content = {
        "name": "schedule",
        "seeds": list(range(seeds)),
        "members": 5,
        "datasets": ["digits"],
        "architectures": ["resnet20"],
        "methods": METHODS,
        "metrics": ["ensemble_accuracy"],
        "recipe": {"epochs": EPOCHS, "precision": "fp32", "augmentation": {"crop_padding": 1}},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.yaml"
        path.write_text(yaml.safe_dump(content))
        graph = plan(load_benchmark(path, load_catalogue()))
    assert not any(cell.problem for cell in graph.cells)
    return len(graph.cells), RunPlan(graph).update(graph.tasks)


def simulate(
    tasks: Mapping[str, Task], workers: int, cells: int = 0, *, whole_groups: bool = False, planned_order: bool = False
) -> Simulated:
    """Run tasks on stand-ins. With `planned_order`, trainings come in the order of the plan, whatever waits for them."""
    seconds = {key: SECONDS[task.kind] + SECONDS_PER_EPOCH * task.cost for key, task in tasks.items()}
    ordered = tasks
    if planned_order:
        ordered = {key: replace(task, cost=0.0) for key, task in tasks.items()}
    clock = VirtualClock()
    policy = engines.PoolPolicy(workers, whole_groups=whole_groups)
    gc.collect()
    began = time.process_time()
    pool = engines.WorkerPool(_context(clock), VirtualLauncher(clock, seconds), policy)
    _drive(TaskQueue(ordered), pool)
    spent = time.process_time() - began
    work = sum(seconds.values())
    path = max(remaining_paths(tasks, seconds).values())
    return Simulated(
        workers=workers,
        cells=cells,
        tasks=len(tasks),
        milliseconds_per_task=1000 * spent / len(tasks),
        makespan=clock.now,
        bound=max(path, work / workers),
        critical_path=path,
        utilization=work / (workers * clock.now),
    )


def _drive(queue: TaskQueue, pool: engines.WorkerPool) -> None:
    """Submit ready tasks and wait for outcomes, as `Runner` does."""
    running = 0
    while running or queue:
        while queue and pool.has_capacity:
            group = queue.take(pool.group_size)
            pool.submit(group)
            running += len(group)
        for outcome in pool.wait():
            running -= 1
            queue.finish(outcome.key)
    pool.close()


def _context(clock: VirtualClock) -> EngineContext:
    nowhere = Path()
    events: deque[Event] = deque(maxlen=1)
    return EngineContext(
        store=nowhere,
        data=nowhere,
        folder=nowhere,
        device="cpu",
        emit=events.append,
        stopping=clock.stopping,
        run_here=lambda group: [],
        code="",
    )


def main() -> None:
    """Print a line of JSON for each number of workers."""
    parser = argparse.ArgumentParser(description="Simulate the schedule of a large benchmark.")
    parser.add_argument("--seeds", type=int, default=2000, help="five cells each; default: 2000")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--whole-groups", action="store_true", help="siblings side by side, as on GPUs")
    parser.add_argument("--planned-order", action="store_true", help="trainings in the order of the plan, to compare")
    arguments = parser.parse_args()
    cells, tasks = tasks_of(arguments.seeds)
    options = {"whole_groups": arguments.whole_groups, "planned_order": arguments.planned_order}
    for workers in arguments.workers:
        result = simulate(tasks, workers, cells, **options)
        json.dump({**asdict(result), **options}, sys.stdout)
        print(flush=True)


if __name__ == "__main__":
    main()
