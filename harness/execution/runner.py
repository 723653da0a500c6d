"""Graph × engine × store → rows. Decides what is ready, hands it out, collects; trains nothing itself."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from harness.api.engine import Engine, EngineContext
from harness.api.interfaces import Metric
from harness.api.options import changed_options
from harness.api.plugin import Plugin
from harness.api.task import Outcome, Task, canonical_json
from harness.errors import DamagedObject, Interrupted, StoreError, UserError
from harness.execution.code_version import current_code_version
from harness.execution.context import RunContext
from harness.plan.graph import Graph, PlannedCell, check_task
from harness.results.ensemble_warnings import planned_warnings
from harness.results.rows import Better, Row, write_rows
from harness.store import Store

if TYPE_CHECKING:
    from harness.execution.worker import Worker

_URGENCY = {"check": 0, "measure": 1, "predict": 2, "derive": 3, "train": 4}  # what completes cells comes first
_ATTEMPTS = 3  # times that an object may turn out damaged before its cells fail
_ROWS_EVERY = 5.0  # seconds between two writings of the rows while a run goes on


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


@dataclass
class RunState:
    """What is known of a run's tasks: the values of measurements and what they warn of, and why tasks failed."""

    values: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)  # failed training → the failed check under which details are stored
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    trained: float = 0.0  # epochs of plain training done in this run
    done: int = 0

    def failed(self, roots: Iterable[str], graph: Graph) -> str:
        """Return the key of a failed task among some tasks and all that they stand on, or nothing."""
        seen: set[str] = set()
        stack = list(roots)
        while stack and self.failures:
            key = stack.pop()
            if key in seen:
                continue
            seen.add(key)
            if key in self.failures:
                return key
            stack.extend(graph.tasks[key].parents)
        return ""


class Runner:
    """One run of a benchmark: what the store lacks is done, and rows are kept up to date in a folder."""

    def __init__(self, graph: Graph, store: Store, engine: Engine, context: RunContext, out: Path) -> None:
        self.graph, self.store, self.engine, self.context, self.out = graph, store, engine, context, out
        self.ledger = RunState()
        self._damaged: dict[str, int] = defaultdict(int)
        self._written = 0.0
        self._begun = False
        self._checked: dict[str, str] = {}  # training → the check that comes before it
        self._passed: set[str] = set()

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
        return self.ledger

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
            if key in self.ledger.failures:
                return True
            seen.add(key)
            stack.extend(p for p in self.graph.tasks[key].parents if p in pending and p not in seen)
        return False

    def _pass(self, pending: dict[str, Task]) -> bool:
        """Work through pending tasks; return False if an object turned out damaged and the rest must be planned anew."""
        self._announce(pending)
        pending = self._with_checks(pending)
        queue = _Queue(pending)
        with self.context.watch("starting"):
            self.engine.open(engine_context(self.context))
        in_work, intact = 0, True
        try:
            while in_work or (queue and intact):
                while queue and intact and self.engine.has_capacity:
                    group = queue.take()
                    with self.context.watch("store"):
                        for task in group:
                            self.store.write_task(task.key, {"key": task.key, **_task_json(task)})
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

    def _settle_check(self, outcome: Outcome, pending: dict[str, Task], queue: _Queue) -> None:
        """Let the trainings behind a check begin, or fail them with what it found."""
        if outcome.status == "done":
            self._passed.add(outcome.key)
            queue.finish(outcome.key)
            return
        for key in pending:
            if self._checked.get(key) == outcome.key:
                self.ledger.failures[key] = outcome.message
                self.ledger.causes[key] = outcome.key

    def _settle(self, outcome: Outcome, pending: dict[str, Task], queue: _Queue) -> bool:
        """Take note of how a task ended; return False if a parent of it was damaged."""
        task = pending[outcome.key]
        facts = {"task": task.key, "kind": task.kind, "status": outcome.status, "message": outcome.message}
        self.context.emit({"event": "task_ended", "time": time.time(), "cost": task.cost, **facts})
        if task.kind == "check":
            self._settle_check(outcome, pending, queue)
            return True
        if outcome.status == "done":
            self.ledger.done += 1
            self.ledger.trained += task.cost
            queue.finish(task.key)
            with self.context.watch("store"):
                self._collect([task])
            if time.monotonic() - self._written > _ROWS_EVERY:
                self.write_rows()
            return True
        if outcome.status == "damaged" and self._damaged[outcome.damaged] < _ATTEMPTS:
            self._damaged[outcome.damaged] += 1
            if self.store.damage(outcome.damaged):  # else another run has made it anew meanwhile
                self._set_aside(outcome.damaged, outcome.message)
            return False
        self.ledger.failures[task.key] = outcome.message
        return True

    def _collect(self, tasks: Iterable[Task]) -> None:
        """Read the values of measurements that are in the store; one that is damaged counts as missing."""
        for task in tasks:
            if task.kind == "measure" and task.key not in self.ledger.values and self.store.present(task.key):
                try:
                    meta = self.store.meta(task.key)
                    self.ledger.values[task.key], self.ledger.warnings[task.key] = _values(meta), _warnings(meta)
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
            write_rows(self.out / "results.csv", rows(self.graph, self.ledger))
        self._written = time.monotonic()


class _Queue:
    """Pending tasks whose parents are done, the most urgent first, in groups."""

    def __init__(self, pending: dict[str, Task]) -> None:
        self._tasks = pending
        self._rank = {key: (_URGENCY[task.kind], i) for i, (key, task) in enumerate(pending.items())}
        self._missing = {key: sum(p in pending for p in task.parents) for key, task in pending.items()}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._groups: dict[str, list[str]] = {}
        self._heap: list[tuple[tuple[int, int], str]] = []
        for key, task in pending.items():
            for parent in task.parents:
                if parent in pending:
                    self._children[parent].append(key)
            if not self._missing[key]:
                self._ready(key)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def _ready(self, key: str) -> None:
        group = self._tasks[key].group
        if group not in self._groups:
            self._groups[group] = []
            heapq.heappush(self._heap, (self._rank[key], group))
        self._groups[group].append(key)

    def take(self) -> list[Task]:
        """Return the most urgent group of tasks that are ready."""
        _, group = heapq.heappop(self._heap)
        return [self._tasks[key] for key in self._groups.pop(group)]

    def finish(self, key: str) -> None:
        """Note that a task is done; its children may be ready now."""
        for child in self._children[key]:
            self._missing[child] -= 1
            if not self._missing[child]:
                self._ready(child)


def rows(graph: Graph, ledger: RunState) -> list[Row]:
    """Return all rows of a benchmark in its order: measured, failed and missing ones."""
    out: list[Row] = []
    for cell in graph.cells:
        out += _cell_rows(cell, graph, ledger)
    return out


def _cell_rows(cell: PlannedCell, graph: Graph, ledger: RunState) -> list[Row]:
    options = canonical_json(cell.spec.method.plugin.identity["options"])
    where = {
        **place(cell),
        "benchmark": graph.benchmark.name,
        "members": len(cell.members) or cell.spec.members,
        "options": options,
        "setting": cell.setting.key,
        "cell": cell.key,
        "method_version": f"{cell.spec.method.plugin.name}@{cell.spec.method.plugin.version}",
        "objective": _version(cell.spec.objective),
        "warning": "; ".join(_cell_warnings(cell, ledger)),
    }
    out: list[Row] = []
    for found in _measured(cell, graph, ledger):
        name, version = found.metric.name, _version(found.metric)
        if found.values:
            out += [_row(where, v, found.key, version, main=i == 0) for i, v in enumerate(found.values)]
            continue
        status: Any = "failed" if found.message else "missing"
        message = found.message or "not computed yet"
        out.append(Row(**where, metric=name, value=None, status=status, message=message, metric_version=version))
    for metric, value in zip(_EPOCHS, (cell.epochs_alone, cell.epochs_new), strict=True):
        main, version = metric != "new_epochs", f"{metric}@1"  # what is new depends on the methods listed before: a detail
        row = partial(Row, **where, metric=metric, unit="epochs", main=main, metric_version=version)
        out.append(row(value=None, status="failed", message=cell.problem) if cell.problem else row(value=value, key=cell.key))
    return out


def _cell_warnings(cell: PlannedCell, ledger: RunState) -> tuple[str, ...]:
    """Return why a cell's ensemble is degenerate: as its measurements found or, before any, as its members' keys say."""
    found = planned_warnings([member.key for member in cell.members])
    for measure in cell.measures.values():
        found = ledger.warnings.get(measure.key, ()) or found
    return found


def _version(plugin: Plugin) -> str:
    """Return a plugin's name and version, and those of its options that are not as they are by default."""
    changed = changed_options(plugin.options)
    return f"{plugin.name}@{plugin.version}{canonical_json(changed) if changed else ''}"


_EPOCHS = ("training_epochs", "new_epochs")


@dataclass(frozen=True)
class _Measured:
    """How a metric of a cell came out: its values, or why it failed and under which key the store keeps more of that, or
    neither."""

    metric: Metric
    key: str = ""
    values: tuple[dict[str, Any], ...] = ()
    message: str = ""
    cause: str = ""


def _measured(cell: PlannedCell, graph: Graph, ledger: RunState) -> Iterator[_Measured]:
    names = (named.plugin.name for named in graph.benchmark.metrics)
    taken = {name: f"metric '{name}'" for name in names} | dict.fromkeys(_EPOCHS, "the harness")
    for named in graph.benchmark.metrics:
        metric: Metric = named.plugin
        if cell.problem:
            yield _Measured(metric, message=cell.problem, cause=cell.key)
            continue
        key = cell.measures[named.label].key
        values = ledger.values.get(key, [])
        clash = _clash(metric.name, values, taken)
        cause = "" if values else ledger.failed([key], graph)
        if clash or cause:
            message = clash or ledger.failures[cause]
            yield _Measured(metric, key, message=message, cause=ledger.causes.get(cause, cause) or key)
        else:
            yield _Measured(metric, key, tuple(values))


def _clash(metric: str, values: list[dict[str, Any]], taken: dict[str, str]) -> str:
    """Say which of a metric's values has a name that another's has, or nothing: then the names are this metric's."""
    for name in (value["metric"] for value in values):
        other = taken.setdefault(name, f"metric '{metric}'")
        if other != f"metric '{metric}'":
            return f"metric '{metric}' gives a value named '{name}', as {other} does; rename it"
    return ""


def _values(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of a measurement as rows will hold them; raise `ValueError` (or its like) if they cannot."""
    values: list[dict[str, Any]] = meta["values"]
    if not values:
        raise ValueError
    for value in values:
        float(value["value"]), float(value["standard_error"] or 0)
        if (
            not isinstance(value["metric"], str)
            or not isinstance(value["unit"], str)
            or value["better"] not in get_args(Better)
        ):
            raise ValueError
    return values


def _warnings(meta: dict[str, Any]) -> tuple[str, ...]:
    """Return what a measurement warns of (older ones say nothing); raise `TypeError` if that is no list of texts."""
    warnings = meta.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(warning, str) for warning in warnings):
        raise TypeError
    return tuple(warnings)


def _row(where: dict[str, Any], value: dict[str, Any], key: str, version: str, main: bool) -> Row:
    error = value["standard_error"]
    return Row(
        **where,
        metric=value["metric"],
        value=float(value["value"]),
        standard_error=None if error is None else float(error),
        unit=value["unit"],
        better=value["better"],
        main=main,
        metric_version=version,
        key=key,
    )


def _task_json(task: Task) -> dict[str, Any]:
    return {"kind": task.kind, "spec": task.spec, "parents": list(task.parents), "group": task.group, "cost": task.cost}


def task_from_json(kept: dict[str, Any]) -> Task:
    """Return the task that a task file describes; raise `StoreError` if it describes none."""
    kind = kept.get("kind")
    if not isinstance(kind, str) or kind not in _URGENCY or not isinstance(kept.get("spec"), dict):
        raise StoreError(f"task {kept.get('key')}: its file describes no task; `harness run` writes it anew")
    return Task(kept["key"], kept["kind"], kept["spec"], (), str(kept.get("group", "")))  # what a worker needs


def failures(graph: Graph, ledger: RunState) -> list[dict[str, Any]]:
    """Return the cells that failed, each reason once: with the metrics that lack a value for it, and `key`, under which the
    store keeps the traceback if there is one."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for number, cell in enumerate(graph.cells):
        for measured in _measured(cell, graph, ledger):
            if measured.message:
                facts = {**place(cell), "message": measured.message, "key": measured.cause, "metrics": []}
                found.setdefault((number, measured.cause), facts)["metrics"].append(measured.metric.name)
    return list(found.values())


def members(graph: Graph) -> list[dict[str, Any]]:
    """Return where each member's weights lie in the store: the object's key and the part of it."""
    return [
        {**place(cell), "member": j, "key": member.key, **member.location}
        for cell in graph.cells
        for j, member in enumerate(cell.members)
    ]


def place(cell: PlannedCell) -> dict[str, Any]:
    """Return a cell's coordinates."""
    spec = cell.spec
    return {
        "dataset": spec.dataset.label,
        "architecture": spec.architecture.label,
        "method": spec.method.label,
        "seed": spec.seed,
    }
