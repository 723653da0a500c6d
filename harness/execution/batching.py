"""Does groups of tasks in one worker: siblings side by side where that is faster, groups that run out of memory in halves."""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence

from harness.api.specs import ProbeSpec, TrainSpec
from harness.api.task import Outcome, Task, canonical_json
from harness.errors import Interrupted, StoreError, TaskFailed, is_out_of_memory
from harness.execution.context import RunContext
from harness.execution.device_errors import broken_device
from harness.execution.task_inputs import lease_key
from harness.execution.tasks.train import TrainTaskRun, train_side_by_side
from harness.execution.worker import MemoryExhausted, Worker
from harness.networks.float32 import ieee_float32
from harness.telemetry.events import OutOfMemory, SiblingsSeparated
from harness.text import describe_error

DoGroup = Callable[[Sequence[Task], bool], list[Outcome]]
"""Does a group of tasks. If it runs out of memory, it raises `MemoryExhausted`, or fails if the second argument is True."""


class GroupRunner:
    """Does groups of tasks. The result of a task does not depend on the other tasks of its group."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._worker = Worker(context)
        self._resources = self._worker.resources
        self._store = self._resources.store
        self._max_batch: dict[str, int] = {}  # largest group that fits in memory, learned from out-of-memory errors

    def run(self, group: Sequence[Task]) -> list[Outcome]:
        """Do the tasks of a group; return how each ended, in order.

        Raise `Interrupted` if the run must stop, `StoreError` if the store cannot be written, and `DeviceBroken` if the device
        can no longer be used by this process.
        """
        watch = self._context.watch
        with ieee_float32(), watch("other"):
            try:
                if self._pays_side_by_side(group):
                    return self._in_batches(group)
                outcomes = []
                for task in group:
                    outcomes += self.run_with_oom_backoff([task], self._one_by_one)
                return outcomes
            finally:
                self._context.emit(watch.phases())

    def _pays_side_by_side(self, group: Sequence[Task]) -> bool:
        several_trainings = len(group) > 1 and group[0].kind == "train"
        return several_trainings and self._context.siblings.side_by_side(group, self._resources.device)

    def _in_batches(self, group: Sequence[Task]) -> list[Outcome]:
        """Train siblings side by side, in batches that fit in memory as far as earlier out-of-memory errors tell."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(group):
            left = group[len(outcomes) :]
            batch = left[: self._max_batch.get(_memory_class(left[0]), len(left))]
            outcomes += self.run_with_oom_backoff(batch, self._side_by_side)
        return outcomes

    def run_with_oom_backoff(self, group: Sequence[Task], do: DoGroup) -> list[Outcome]:
        """Do a group at once. If it runs out of memory, do it in halves, down to single tasks.

        A single task is retried once, after all other memory was freed.
        """
        with contextlib.suppress(MemoryExhausted):
            return do(group, False)
        self._resources.release()
        again = "alone, once more" if len(group) == 1 else f"{len(group)} tasks in halves"
        first = group[0]
        self._context.emit(OutOfMemory(task=first.key, kind=first.kind, message=f"out of memory; tried {again}"))
        if len(group) == 1:
            return do(group, True)
        half = (len(group) + 1) // 2
        self._max_batch[_memory_class(first)] = half
        return [*self.run_with_oom_backoff(group[:half], do), *self.run_with_oom_backoff(group[half:], do)]

    def _one_by_one(self, group: Sequence[Task], last: bool) -> list[Outcome]:
        return [self._worker.attempt(task, last=last) for task in group]

    def _side_by_side(self, group: Sequence[Task], last: bool) -> list[Outcome]:
        """Train siblings side by side where possible; then do the remaining tasks one by one.

        A sibling that diverges fails without the others. An out-of-memory error is re-raised as `MemoryExhausted`. After any
        other exception, each sibling is tried alone.
        """
        ended: dict[str, Outcome] = {}
        together = group
        if last or len(group) == 1:
            together = []
        with contextlib.ExitStack() as leases, contextlib.redirect_stdout(sys.stderr):
            try:
                for runs in self._startable(together, leases):
                    ended |= self._train_together(runs)
            except (Interrupted, KeyboardInterrupt, StoreError):
                raise
            except BaseException as error:
                broken = broken_device(error, self._resources.device)
                if broken is not None:
                    raise broken from error
                if is_out_of_memory(error):
                    raise MemoryExhausted from None
                self._report_separation(group[0], error)
            finally:
                self._worker.process_state.restore()
        outcomes = []
        for task in group:
            outcome = ended.get(task.key)
            outcomes.append(outcome or self._worker.attempt(task, last=last))
        return outcomes

    def _startable(self, group: Sequence[Task], leases: contextlib.ExitStack) -> list[list[TrainTaskRun]]:
        """Return trainings that can run side by side: lists of several that start from the same step.

        Trainings that are done, that another run is doing, or whose object is damaged are left out. The leases are held until
        `leases` is closed.
        """
        by_step: dict[int, list[TrainTaskRun]] = defaultdict(list)
        for task in group:
            if self._store.has(task.key) or not leases.enter_context(self._store.lease(lease_key(task))):
                continue
            self._store.refresh(task.key)
            if not self._store.present(task.key) and isinstance(task.spec, TrainSpec):
                run = TrainTaskRun(task, task.spec, self._resources)
                by_step[run.start.step].append(run)
        return [runs for runs in by_step.values() if len(runs) > 1]

    def _train_together(self, runs: Sequence[TrainTaskRun]) -> dict[str, Outcome]:
        """Train siblings side by side; return the outcomes by key. Raise `Interrupted` after all states were saved."""
        for run in runs:
            self._worker.report_start(run.task)
        outcomes: dict[str, Outcome] = {}
        interrupted = False
        for run, end in zip(runs, train_side_by_side(runs, self._resources), strict=True):
            key = run.task.key
            if isinstance(end, TaskFailed):
                outcomes[key] = self._worker.failed(run.task, end)
                continue
            try:
                run.finish(end)
                outcomes[key] = self._worker.done(run.task)
            except Interrupted:
                interrupted = True
        if interrupted:
            raise Interrupted
        return outcomes

    def _report_separation(self, first: Task, error: BaseException) -> None:
        message = f"siblings are trained one by one: {describe_error(error)}"
        self._context.emit(SiblingsSeparated(task=first.key, kind=first.kind, message=message))


def _memory_class(task: Task) -> str:
    """Return a text that is equal for tasks with the same memory use: kind, setting and objective."""
    if isinstance(task.spec, ProbeSpec):
        return task.kind
    objective = None
    if isinstance(task.spec, TrainSpec):
        objective = task.spec.trajectory.objective["name"]
    return canonical_json([task.kind, task.spec.setting.to_json(), objective])
