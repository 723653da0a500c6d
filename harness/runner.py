"""Graph × engine × store → rows. Decides what is ready, hands it out, collects; trains nothing itself."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DamagedObject, Interrupted
from harness.graph import Graph, PlannedCell
from harness.interfaces import Engine, Session
from harness.results import Row, write_rows
from harness.store import Store
from harness.task import Outcome, Task, canonical_json

_URGENCY = {"measure": 0, "predict": 1, "derive": 2, "train": 3}  # what completes cells comes first
_ATTEMPTS = 3  # times that an object may turn out damaged before its cells fail
_ROWS_EVERY = 5.0  # seconds between two writings of the rows while a run goes on


@dataclass
class Ledger:
    """What is known of a run's tasks: the values of measurements, and why tasks failed."""

    values: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    trained: float = 0.0  # epochs of plain training done in this run
    done: int = 0

    def failure(self, roots: Iterable[str], graph: Graph) -> str:
        """Return the message of a failed task among some tasks and all that they stand on, or nothing."""
        seen: set[str] = set()
        stack = list(roots)
        while stack and self.failures:
            key = stack.pop()
            if key in seen:
                continue
            seen.add(key)
            if key in self.failures:
                return self.failures[key]
            stack.extend(graph.tasks[key].parents)
        return ""


class Runner:
    """One run of a benchmark: what the store lacks is done, and rows are kept up to date in a folder."""

    def __init__(self, graph: Graph, store: Store, engine: Engine, session: Session, out: Path) -> None:
        self.graph, self.store, self.engine, self.session, self.out = graph, store, engine, session, out
        self.ledger = Ledger()
        self._damaged: dict[str, int] = defaultdict(int)
        self._written = 0.0

    def run(self) -> Ledger:
        """Do all that is missing. Raise `Interrupted` when asked to stop; rows are on disk either way."""
        self._collect(self.graph.tasks.values())
        try:
            pending = self.graph.pending(self.store)
            while pending:
                if self._pass(pending):
                    break
                pending = self._remaining()
        finally:
            self.write_rows()
        return self.ledger

    def _remaining(self) -> dict[str, Task]:
        """Return what is still missing, after a damaged object was set aside, without what cannot succeed."""
        pending = self.graph.pending(self.store)
        return {key: task for key, task in pending.items() if not self._doomed(key, pending)}

    def _doomed(self, root: str, pending: dict[str, Task]) -> bool:
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
        queue = _Queue(pending)
        self.engine.open(self.session)
        in_work, intact = 0, True
        try:
            while in_work or (queue and intact):
                while queue and intact and in_work < self.engine.capacity:
                    group = queue.take()
                    for task in group:
                        self.store.write_task(task.key, {"key": task.key, **_task_json(task)})
                    self.engine.submit(group)
                    in_work += len(group)
                if self.session.stopping():
                    raise Interrupted
                outcomes = self.engine.wait()
                in_work -= len(outcomes)
                for outcome in outcomes:
                    intact &= self._settle(outcome, pending, queue)
        finally:
            self.engine.close()
        return intact

    def _settle(self, outcome: Outcome, pending: dict[str, Task], queue: _Queue) -> bool:
        """Take note of how a task ended; return False if a parent of it was damaged."""
        task = pending[outcome.key]
        facts = {"task": task.key, "kind": task.kind, "status": outcome.status, "message": outcome.message}
        self.session.emit({"event": "task_ended", "time": time.time(), "cost": task.cost, **facts})
        if outcome.status == "done":
            self.ledger.done += 1
            self.ledger.trained += task.cost
            queue.finish(task.key)
            self._collect([task])
            if time.monotonic() - self._written > _ROWS_EVERY:
                self.write_rows()
            return True
        if outcome.status == "damaged" and self._damaged[outcome.damaged] < _ATTEMPTS:
            self._damaged[outcome.damaged] += 1
            where = self.store.set_aside(outcome.damaged)
            self.session.emit(
                {
                    "event": "set_aside",
                    "time": time.time(),
                    "key": outcome.damaged,
                    "path": str(where),
                    "message": outcome.message,
                }
            )
            return False
        self.ledger.failures[task.key] = outcome.message
        return True

    def _collect(self, tasks: Iterable[Task]) -> None:
        """Read the values of measurements that are in the store; one that is damaged counts as missing."""
        for task in tasks:
            if task.kind == "measure" and task.key not in self.ledger.values and self.store.present(task.key):
                try:
                    self.ledger.values[task.key] = self.store.meta(task.key)["values"]
                except (DamagedObject, KeyError):
                    self.store.set_aside(task.key)

    def _announce(self, pending: dict[str, Task]) -> None:
        cost = sum(task.cost for task in pending.values())
        total = sum(task.cost for task in self.graph.tasks.values())
        facts = {"tasks": len(pending), "epochs": cost, "epochs_in_all": total, "cells": len(self.graph.cells)}
        self.session.emit({"event": "planned", "time": time.time(), **facts})

    def write_rows(self) -> None:
        """Write what is known to `results.csv`, every cell and metric of the benchmark in it."""
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


def rows(graph: Graph, ledger: Ledger) -> list[Row]:
    """Return all rows of a benchmark in its order: measured, failed and missing ones."""
    out: list[Row] = []
    for cell in graph.cells:
        out += _cell_rows(cell, graph, ledger)
    return out


def _cell_rows(cell: PlannedCell, graph: Graph, ledger: Ledger) -> list[Row]:
    options = canonical_json(cell.spec.method.plugin.identity["options"])
    where = {
        **place(cell),
        "benchmark": graph.benchmark.name,
        "members": len(cell.members),
        "options": options,
        "setting": cell.members[0].setting.key,
        "cell": cell.key,
    }
    out: list[Row] = []
    for named in graph.benchmark.metrics:
        task = cell.measures[named.label]
        version = f"{named.plugin.name}@{named.plugin.version}"
        if task.key in ledger.values:
            out += [_row(where, v, task.key, version, main=i == 0) for i, v in enumerate(ledger.values[task.key])]
            continue
        message = ledger.failure([task.key], graph)
        status: Any = "failed" if message else "missing"
        message = message or "not computed yet"
        out.append(Row(**where, metric=named.plugin.name, value=None, status=status, message=message, metric_version=version))
    for metric, value in (("training_epochs", cell.epochs_alone), ("new_epochs", cell.epochs_new)):
        main, version = metric != "new_epochs", f"{metric}@1"  # what is new depends on the methods listed before: a detail
        out.append(Row(**where, metric=metric, value=value, unit="epochs", main=main, metric_version=version, key=cell.key))
    return out


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
    """Return the task that a task file describes."""
    return Task(kept["key"], kept["kind"], kept["spec"], tuple(kept["parents"]), kept["group"], kept["cost"])


class EventLog:
    """Appends events to `events.jsonl` and hands them on to observers; one that fails is named once and left out."""

    def __init__(self, path: Path, observers: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._observers = dict(observers)
        self._lock = threading.RLock()  # an engine's threads report side by side

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an event."""
        with self._lock:
            self._log(event)

    def _log(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event, default=str) + "\n")
        self._file.flush()
        for name, observer in list(self._observers.items()):
            try:
                observer(event)
            except Exception as error:  # an observer is a plugin: it never stops a run
                del self._observers[name]
                facts = {"observer": name, "message": f"{type(error).__name__}: {error}"}
                self._log({"event": "observer_failed", "time": time.time(), **facts})

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def failures(graph: Graph, ledger: Ledger) -> list[dict[str, Any]]:
    """Return the cells that failed, with the reason."""
    found = []
    for cell in graph.cells:
        message = ledger.failure((task.key for task in cell.measures.values()), graph)
        if message:
            found.append({**place(cell), "message": message})
    return found


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
