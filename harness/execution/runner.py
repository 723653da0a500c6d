"""The scheduler of a run: submits ready tasks to an engine, collects results and writes rows. Computes nothing itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.engine import Engine, EngineContext
from harness.api.task import Outcome, Task
from harness.errors import Interrupted, UserError
from harness.execution.code_version import current_code_version
from harness.execution.collector import ResultCollector
from harness.execution.context import RunContext
from harness.execution.example_file import update_examples
from harness.execution.queue import TaskQueue
from harness.execution.rows import rows
from harness.execution.run_plan import RunPlan
from harness.execution.run_state import RunState
from harness.execution.task_files import task_json
from harness.results import examples
from harness.results.rows import write_rows
from harness.store import Store
from harness.telemetry.events import RunPlanned, TaskEnded

if TYPE_CHECKING:
    from harness.execution.batching import GroupRunner

_ROWS_EVERY_SECONDS = 5.0  # the rows are written at most this often during a run
_SHARE_OF_ROWS = 0.05  # of the runner's time at most: the rows of 10,000 cells take seconds


def engine_context(context: RunContext, folder: Path) -> EngineContext:
    """Return the context for an engine of the run in `folder`.

    The worker of this process is created when the engine first calls `run_here`.
    """
    group_runner: GroupRunner | None = None

    def run_here(group: Sequence[Task]) -> Sequence[Outcome]:
        nonlocal group_runner
        if group_runner is None:
            from harness.execution.batching import GroupRunner

            group_runner = GroupRunner(context)
        return group_runner.run(group)

    return EngineContext(
        store=context.store,
        data=context.data,
        folder=folder,
        device=context.device,
        emit=context.emit,
        stopping=context.stopping,
        run_here=run_here,
        code=current_code_version(context.catalogue.problems).to_json(),
        threads=context.threads,
    )


class Runner:
    """One run of a benchmark: does the tasks whose results the store lacks, and writes rows to the folder `out`."""

    def __init__(self, plan: RunPlan, store: Store, engine: Engine, context: RunContext, out: Path) -> None:
        self.plan = plan
        self.graph = plan.graph
        self.store = store
        self.engine = engine
        self.context = context
        self.out = out
        self.state = RunState()
        self._collector = ResultCollector(store, self.state, context)
        self._rows_due = 0.0
        self._begun = False
        # created once: all workers of a run must use the code that it began with
        self._engine_context = engine_context(context, out)

    def run(self) -> RunState:
        """Do all tasks whose results are missing.

        Raise `Interrupted` if the run must stop, and `StoreError` if the store cannot be written; rows are written first.
        """
        self.begin()
        try:
            with self.context.watch("store"):
                pending = self.graph.pending(self.store)
            while pending and not self._do(pending):
                pending = self._still_possible()
            with self.context.watch("store"):  # what another run stored between collecting and planning was not pending
                self._collector.collect(self.graph.tasks.values())
        except BaseException:
            with contextlib.suppress(UserError):  # report the first error
                self.write_rows()
            raise
        self.write_rows()
        return self.state

    def begin(self) -> None:
        """Collect stored results, and write rows, which replace those of an earlier run in the folder.

        A second call does nothing.
        """
        if self._begun:
            return
        with self.context.watch("store"):
            self._collector.collect(self.graph.tasks.values())
            self._collector.record_unplanned(self.graph.cells)
        self.write_rows()
        self._begun = True

    def _still_possible(self) -> dict[str, Task]:
        """Return the pending tasks after a damaged object was quarantined, without those that cannot be done or have no use."""
        possible = {}
        in_vain = self.plan.in_vain()
        for key, task in self.graph.pending(self.store).items():
            if key not in in_vain and not self.graph.failed_ancestor([key], self.state.failures):
                possible[key] = task
        return possible

    def _do(self, pending: dict[str, Task]) -> bool:
        """Do pending tasks; return False if an object turned out damaged, so that the rest must be planned again."""
        tasks = self.plan.update(pending)
        self._report_plan(pending)
        queue = TaskQueue(tasks)
        watch = self.context.watch
        with watch("starting"):
            self.engine.open(self._engine_context)
        running = 0
        intact = True
        try:
            while running or (queue and intact):
                while queue and intact and self.engine.has_capacity:
                    running += self._submit(queue.take(self.engine.group_size))
                if self.context.stopping():
                    raise Interrupted
                with watch("waiting"):
                    outcomes = self.engine.wait()
                running -= len(outcomes)
                for outcome in outcomes:
                    intact &= self._settle(outcome, tasks[outcome.key], queue)
        finally:
            with watch("waiting"):
                self.engine.close()
        return intact

    def _submit(self, group: Sequence[Task]) -> int:
        """Submit a group to the engine; return its size."""
        with self.context.watch("store"):
            for task in group:
                self.store.write_task(task.key, task_json(task))
        with self.context.watch("starting"):
            self.engine.submit(group)
        return len(group)

    def _settle(self, outcome: Outcome, task: Task, queue: TaskQueue) -> bool:
        """Record how a task ended; return False if an object that it reads was damaged and will be computed again."""
        ended = TaskEnded(
            task=task.key,
            kind=task.kind,
            status=outcome.status,
            message=outcome.message,
            taken_over=outcome.taken_over,
            time=outcome.ended,
        )
        self.context.emit(ended)
        if task.kind == "check":
            self._settle_check(outcome, queue)
        elif outcome.status == "done":
            self._count(task, outcome.taken_over)
            self._settle_done(task, queue)
        elif outcome.status == "damaged" and self._collector.quarantine_for_retry(outcome.damaged, outcome.message):
            return False
        else:
            self.state.failures[task.key] = outcome.message
        return True

    def _count(self, task: Task, taken_over: bool) -> None:
        """Count a task that is done, apart if another run did it."""
        if taken_over:
            self.state.taken_over += 1
            self.state.epochs_taken_over += task.cost
        else:
            self.state.done += 1
            self.state.trained += task.cost

    def _settle_done(self, task: Task, queue: TaskQueue) -> None:
        queue.finish(task.key)
        with self.context.watch("store"):
            self.store.refresh(task.key)
            self._collector.collect([task])
        if time.monotonic() > self._rows_due:
            self.write_rows()

    def _settle_check(self, outcome: Outcome, queue: TaskQueue) -> None:
        """After a check, make the tasks ready that wait for it.

        If it failed, the trainings or derivations that it was made for fail with its message, and no training begins whose only
        purpose they were.
        """
        failed = self.plan.settle_check(outcome)
        for key in failed:
            # a derivation whose training has failed keeps that reason
            if self.graph.tasks[key].kind == "train" or not self.graph.failed_ancestor([key], self.state.failures):
                self.state.failures[key] = outcome.message
                self.state.causes[key] = outcome.key
        ended = [outcome.key]
        if failed:
            ended += self.plan.needless_checks(outcome.key, self.state.failures)
        stay = {*failed, *ended, *self.plan.in_vain()}
        for key in ended:
            queue.finish(key, without=stay)

    def _report_plan(self, pending: dict[str, Task]) -> None:
        epochs = sum(task.cost for task in pending.values())
        in_all = sum(task.cost for task in self.graph.tasks.values())
        self.context.emit(RunPlanned(tasks=len(pending), epochs=epochs, epochs_in_all=in_all, cells=len(self.graph.cells)))

    def write_examples(self) -> None:
        """Write `examples.npz` with the contributions of test images to the values measured so far."""
        with self.context.watch("board"):
            update_examples(self.out / examples.FILE_NAME, self.graph, self.state, self._collector)

    def write_rows(self) -> None:
        """Write `results.csv` with rows for every cell and metric of the benchmark, done or not."""
        began = time.monotonic()
        with self.context.watch("board"):
            write_rows(self.out / "results.csv", rows(self.graph, self.state))
        ended = time.monotonic()
        self._rows_due = ended + max(_ROWS_EVERY_SECONDS, (ended - began) / _SHARE_OF_ROWS)
