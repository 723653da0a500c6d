"""Graph × engine × store → rows. Decides what is ready, hands it out, collects; trains nothing itself."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.engine import Engine, EngineContext
from harness.api.task import Outcome, Task, canonical_json
from harness.errors import DamagedObject, Interrupted, UserError
from harness.execution.code_version import current_code_version
from harness.execution.context import RunContext
from harness.execution.queue import TaskQueue
from harness.execution.rows import place, rows, values_of, warnings_of
from harness.execution.run_state import RunState
from harness.execution.task_files import task_json
from harness.plan.graph import Graph
from harness.plan.tasks import check_task
from harness.results.rows import write_rows
from harness.store import Store

if TYPE_CHECKING:
    from harness.execution.worker import Worker

MAX_ATTEMPTS = 3  # times that an object may turn out damaged before its cells fail


_ROWS_EVERY_SECONDS = 5.0  # seconds between two writings of the rows while a run goes on


def engine_context(context: RunContext) -> EngineContext:
    """Return what an engine is told of a run; the worker of this process is made when an engine first asks for it."""
    worker: Worker | None = None

    def run_here(group: Sequence[Task]) -> Sequence[Outcome]:
        nonlocal worker
        if worker is None:
            from harness.execution.worker import Worker

            worker = Worker(context)
        return worker.run(group)

    return EngineContext(
        store=context.store,
        data=context.data,
        device=context.device,
        emit=context.emit,
        stopping=context.stopping,
        run_here=run_here,
        code=current_code_version(context.catalogue.problems).to_json(),
        threads=context.threads,
    )


class Runner:
    """One run of a benchmark: what the store lacks is done, and rows are kept up to date in a folder."""

    def __init__(self, graph: Graph, store: Store, engine: Engine, context: RunContext, out: Path) -> None:
        self.graph, self.store, self.engine, self.context, self.out = graph, store, engine, context, out
        self.state = RunState()
        self._damaged: dict[str, int] = defaultdict(int)
        self._written = 0.0
        self._begun = False
        self._checked: dict[str, str] = {}  # training → the check that comes before it
        self._passed: set[str] = set()
        self._engine_context = engine_context(context)  # made once: all workers of a run use the code that it began with

    def run(self) -> RunState:
        """Do all that is missing. Raise `Interrupted` when asked to stop, `StoreError` when the store takes no more; rows are
        on disk either way."""
        self.begin()
        try:
            with self.context.watch("store"):
                pending = self.graph.pending(self.store)
            while pending:
                if self._pass(pending):
                    break
                pending = self._remaining()
        except BaseException:
            with contextlib.suppress(UserError):  # the first trouble is the one to tell
                self.write_rows()
            raise
        self.write_rows()
        return self.state

    def begin(self) -> None:
        """Collect what is in the store, and write rows: what an earlier run left in the folder is not to be taken for this
        one's. Called again, it does nothing."""
        if not self._begun:
            with self.context.watch("store"):
                self._collect(self.graph.tasks.values())
                self._note_unplanned()
            self.write_rows()
            self._begun = True

    def _note_unplanned(self) -> None:
        """Keep the tracebacks of plugins that failed at planning."""
        for cell in self.graph.cells:
            if cell.traceback:
                facts = {"message": cell.problem, "traceback": cell.traceback, "time": time.time(), "cell": place(cell)}
                self.store.record_failure(cell.key, facts)

    def _remaining(self) -> dict[str, Task]:
        """Return what is still missing, after a damaged object was set aside, without what cannot succeed."""
        pending = self.graph.pending(self.store)
        return {key: task for key, task in pending.items() if not self._is_blocked(key, pending)}

    def _is_blocked(self, root: str, pending: dict[str, Task]) -> bool:
        stack, seen = [root], set()
        while stack:
            key = stack.pop()
            if key in self.state.failures:
                return True
            seen.add(key)
            stack.extend(p for p in self.graph.tasks[key].parents if p in pending and p not in seen)
        return False

    def _pass(self, pending: dict[str, Task]) -> bool:
        """Work through pending tasks; return False if an object turned out damaged and the rest must be planned anew."""
        self._announce(pending)
        pending = self._with_checks(pending)
        queue = TaskQueue(pending)
        with self.context.watch("starting"):
            self.engine.open(self._engine_context)
        in_work, intact = 0, True
        try:
            while in_work or (queue and intact):
                while queue and intact and self.engine.has_capacity:
                    group = queue.take()
                    with self.context.watch("store"):
                        for task in group:
                            self.store.write_task(task.key, {"key": task.key, **task_json(task)})
                    with self.context.watch("starting"):
                        self.engine.submit(group)
                    in_work += len(group)
                if self.context.stopping():
                    raise Interrupted
                with self.context.watch("waiting"):
                    outcomes = self.engine.wait()
                in_work -= len(outcomes)
                for outcome in outcomes:
                    intact &= self._settle(outcome, pending, queue)
        finally:
            with self.context.watch("waiting"):
                self.engine.close()
        return intact

    def _with_checks(self, pending: dict[str, Task]) -> dict[str, Task]:
        """Return pending tasks with a check before each training: one per setting and objective that has trainings to do.

        Checks are no part of the graph: nothing is stored of them, and every run that trains makes its own.
        """
        checks: dict[str, Task] = {}
        gated: dict[str, Task] = {}
        known: dict[tuple[str, str, str], Task] = {}
        for key, task in pending.items():
            gated[key] = task
            if task.kind != "train":
                continue
            trajectory, teacher = task.spec["trajectory"], task.spec["teacher"]
            alike = (trajectory["setting"], canonical_json(trajectory["objective"] | {"teacher": None}), str(teacher is None))
            if alike not in known:
                known[alike] = check_task(task)
            check = known[alike]
            self._checked[key] = check.key
            if check.key not in self._passed:
                checks[check.key] = check
                gated[key] = replace(task, parents=(*task.parents, check.key))
        self.graph.checks.update(checks)
        return {**checks, **gated}

    def _settle_check(self, outcome: Outcome, pending: dict[str, Task], queue: TaskQueue) -> None:
        """Let the trainings behind a check begin, or fail them with what it found."""
        if outcome.status == "done":
            self._passed.add(outcome.key)
            queue.finish(outcome.key)
            return
        for key in pending:
            if self._checked.get(key) == outcome.key:
                self.state.failures[key] = outcome.message
                self.state.causes[key] = outcome.key

    def _settle(self, outcome: Outcome, pending: dict[str, Task], queue: TaskQueue) -> bool:
        """Take note of how a task ended; return False if a parent of it was damaged."""
        task = pending[outcome.key]
        facts = {"task": task.key, "kind": task.kind, "status": outcome.status, "message": outcome.message}
        self.context.emit({"event": "task_ended", "time": time.time(), "cost": task.cost, **facts})
        if task.kind == "check":
            self._settle_check(outcome, pending, queue)
            return True
        if outcome.status == "done":
            self.state.done += 1
            self.state.trained += task.cost
            queue.finish(task.key)
            with self.context.watch("store"):
                self._collect([task])
            if time.monotonic() - self._written > _ROWS_EVERY_SECONDS:
                self.write_rows()
            return True
        if outcome.status == "damaged" and self._damaged[outcome.damaged] < MAX_ATTEMPTS:
            self._damaged[outcome.damaged] += 1
            if self.store.damage(outcome.damaged):  # else another run has made it anew meanwhile
                self._set_aside(outcome.damaged, outcome.message)
            return False
        self.state.failures[task.key] = outcome.message
        return True

    def _collect(self, tasks: Iterable[Task]) -> None:
        """Read the values of measurements that are in the store; one that is damaged counts as missing."""
        for task in tasks:
            if task.kind == "measure" and task.key not in self.state.values and self.store.present(task.key):
                try:
                    meta = self.store.meta(task.key)
                    self.state.values[task.key], self.state.warnings[task.key] = values_of(meta), warnings_of(meta)
                except DamagedObject as error:
                    self._set_aside(task.key, str(error))
                except (KeyError, TypeError, ValueError, OverflowError):
                    self._set_aside(task.key, f"object {task.key[:12]} holds no measured values")

    def _set_aside(self, key: str, message: str) -> None:
        where = self.store.quarantine(key)
        self.context.emit({"event": "set_aside", "time": time.time(), "key": key, "path": str(where), "message": message})

    def _announce(self, pending: dict[str, Task]) -> None:
        cost = sum(task.cost for task in pending.values())
        total = sum(task.cost for task in self.graph.tasks.values())
        facts = {"tasks": len(pending), "epochs": cost, "epochs_in_all": total, "cells": len(self.graph.cells)}
        self.context.emit({"event": "planned", "time": time.time(), **facts})

    def write_rows(self) -> None:
        """Write what is known to `results.csv`, every cell and metric of the benchmark in it."""
        with self.context.watch("board"):
            write_rows(self.out / "results.csv", rows(self.graph, self.state))
        self._written = time.monotonic()
