"""Cells → handles → deduplicated tasks. Merges equal keys, cuts trajectories at their checkpoints and counts the cost."""

from __future__ import annotations

import contextlib
import itertools
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Literal

from harness.api.trajectory import Cell, Checkpoint, DerivedWeights, Setting, Weights
from harness.benchmark import Benchmark, CellSpec
from harness.errors import PluginError
from harness.plan.cost import epochs_alone
from harness.plan.graph import Graph, PlannedCell
from harness.plan.tasks import derive_task, measure_task, predict_task, train_task
from harness.text import describe_error

MAX_MEMBERS = 10_000
"""Members that a benchmark file may ask for, at most; a builder may yield without end."""


def plan(benchmark: Benchmark, precision: Literal["fp32", "bf16"] = "fp32") -> Graph:
    """Build the graph of a benchmark. Linear in the number of cells. A builder that fails, or does not return handles, fails
    its cells only: they are in the graph with a `problem`. `precision` is that of recipes that say `auto`."""
    benchmark = benchmark.in_precision(precision)
    graph = Graph(benchmark)
    planner = _Planner(graph)
    with contextlib.redirect_stdout(sys.stderr), contextlib.chdir(Path.cwd()):  # a builder may print, and change the folder
        drafts = [planner.draft(spec) for spec in benchmark.cells()]
        planner.add_trainings()
        for draft in drafts:
            planner.add_cell(draft)
    return graph


class _Planner:
    """Collects handles, then makes tasks of them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.settings: dict[tuple[int, int, int], Setting] = {}
        self.handles: dict[str, Weights] = {}  # parents before children
        self.taps: dict[str, dict[int, Checkpoint]] = {}  # trajectory → epoch → checkpoint
        self.counted: set[str] = set()

    def draft(self, spec: CellSpec) -> PlannedCell:
        """Ask a cell's builder for its members and note every handle they stand on; the rest of the cell is still to come."""
        setting = self._setting(spec)
        where = f"method '{spec.method.label}' on {spec.dataset.label} × {spec.architecture.label}"
        try:
            members = self._members(spec, Cell(setting, spec.objective, spec.seed, spec.members))
        except PluginError as error:
            return PlannedCell(spec, setting, problem=f"{where}: {error}")
        except (Exception, SystemExit) as error:  # a builder is a plugin: name it, whatever it raises
            return PlannedCell(
                spec, setting, problem=f"{where}: its builder fails: {describe_error(error)}", traceback=_trace(error)
            )
        return PlannedCell(spec, setting, members)

    def _members(self, spec: CellSpec, cell: Cell) -> tuple[Weights, ...]:
        members = tuple(itertools.islice(spec.method.plugin.build(cell), MAX_MEMBERS + 1))
        if not members or not all(isinstance(member, Weights) for member in members):
            raise PluginError(f"its builder returns {members!r:.80}; at least one handle of weights is expected")
        if len(members) > MAX_MEMBERS:
            raise PluginError(f"its builder returns more than {MAX_MEMBERS} members")
        found: dict[str, Weights] = {}
        for member in members:
            self._visit(member, found)
        for handle in found.values():
            self.handles[handle.key] = handle
            if isinstance(handle, Checkpoint):
                self.taps.setdefault(handle.trajectory.key, {})[handle.epoch] = handle
        return members

    def _setting(self, spec: CellSpec) -> Setting:
        parts = (spec.dataset.plugin, spec.architecture.plugin, spec.recipe)
        key = (id(parts[0]), id(parts[1]), id(parts[2]))
        if key not in self.settings:
            self.settings[key] = Setting(*parts)
        return self.settings[key]

    def _visit(self, weights: Weights, found: dict[str, Weights]) -> None:
        """Find the handles that nobody has noted yet, each after all that it is a function of."""
        stack: list[tuple[Weights, bool]] = [(weights, False)]
        while stack:
            handle, parents_done = stack.pop()
            if handle.key in self.handles or handle.key in found:
                continue
            if not parents_done:
                stack.append((handle, True))
                stack.extend((parent, False) for parent in _parents(handle))
                continue
            found[handle.key] = handle

    def add_trainings(self) -> None:
        """Make the tasks that train and derive, every parent before its children."""
        for handle in self.handles.values():
            if isinstance(handle, Checkpoint):
                for epoch in sorted(e for e in self.taps[handle.trajectory.key] if e <= handle.epoch):
                    self._train(self.taps[handle.trajectory.key][epoch])
            elif isinstance(handle, DerivedWeights) and handle.task_key not in self.graph.tasks:
                self.graph.tasks[handle.task_key] = derive_task(handle)

    def _train(self, checkpoint: Checkpoint) -> None:
        if checkpoint.key in self.graph.tasks:
            return
        earlier = [e for e in self.taps[checkpoint.trajectory.key] if e < checkpoint.epoch]
        start = self.taps[checkpoint.trajectory.key][max(earlier)] if earlier else checkpoint.trajectory.start
        self.graph.tasks[checkpoint.key] = train_task(checkpoint, start)

    def add_cell(self, draft: PlannedCell) -> None:
        """Make the tasks that predict and measure, and count what the cell costs."""
        members, tasks = draft.members, self.graph.tasks
        if not members:
            self.graph.cells.append(draft)
            return
        predictions = [predict_task(member) for member in members]
        metrics = self.graph.benchmark.metrics
        measures = {named.label: measure_task(named, members, predictions, draft.spec.seed) for named in metrics}
        for task in (*predictions, *measures.values()):
            tasks.setdefault(task.key, task)
        new = sum(task.cost for task in self.graph._closure(draft, tasks, self.counted))
        self.graph.cells.append(replace(draft, measures=measures, epochs_alone=epochs_alone(members), epochs_new=new))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _parents(weights: Weights) -> list[Weights]:
    if isinstance(weights, DerivedWeights):
        return list(weights.parents)
    if isinstance(weights, Checkpoint):
        trajectory = weights.trajectory
        return [w for w in (trajectory.start, trajectory.teacher) if w is not None]
    raise PluginError(f"a handle of type {type(weights).__name__} is not one the planner knows")
