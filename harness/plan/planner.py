"""The planner: cells to handles to tasks. Tasks with equal keys are merged, and trajectories are split at checkpoints."""

from __future__ import annotations

import contextlib
import itertools
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from harness.api.cell import Cell
from harness.api.derived_weights import DerivedWeights
from harness.api.joint_trajectory import JointCheckpoint
from harness.api.moment_weights import MomentWeights
from harness.api.setting import Setting
from harness.api.trajectory import Checkpoint, Trajectory, Weights
from harness.benchmark import Benchmark, CellSpec
from harness.benchmark.resolver import batch_errors
from harness.errors import PluginError, UserError
from harness.plan.ancestors import ancestors, parents_first
from harness.plan.cost import epochs_alone
from harness.plan.evaluations import MetricRequests
from harness.plan.graph import Graph, PlannedCell
from harness.plan.joint_tasks import joint_train_task
from harness.plan.methods import members_of_methods, name_with_options, require_registered
from harness.plan.tasks import cell_tasks, derive_task, train_task
from harness.startup.garbage import garbage_collection_paused
from harness.text import describe_error

MAX_MEMBERS = 10_000
"""Most members of an ensemble. A builder may yield forever."""

AnyCheckpoint = Checkpoint | JointCheckpoint
"""A checkpoint of one training; of a joint training, any member's stands for all of them."""


def plan(benchmark: Benchmark, precision: Literal["fp32", "bf16"] = "fp32") -> Graph:
    """Return the graph of a benchmark. `precision` replaces `precision: auto` in recipes.

    If a builder raises an exception or does not return handles, only its cells fail: they are in the graph with a `problem`.
    The time is linear in the number of cells.
    """
    benchmark = benchmark.in_precision(precision)
    graph = Graph(benchmark)
    planner = _Planner(graph)
    # a builder may print or change the working folder
    with contextlib.redirect_stdout(sys.stderr), contextlib.chdir(Path.cwd()), garbage_collection_paused():
        drafts = [planner.draft(spec) for spec in benchmark.cells()]
        planner.add_trainings()
        for draft in drafts:
            planner.add_cell(draft)
    return graph


class _Planner:
    """Collects the handles of all cells, then creates their tasks."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.settings: dict[tuple[int, int, int], Setting] = {}
        self.handles: dict[str, Weights] = {}  # parents before children
        self.checkpoints: dict[str, dict[int, AnyCheckpoint]] = defaultdict(dict)  # trajectory → epoch → checkpoint
        self.counted: set[str] = set()
        self.method_names: dict[int, str] = {}
        self.members_of = members_of_methods(graph.benchmark.catalogue, graph.benchmark.path.parent)
        self.trajectories: dict[tuple[str, int, int], Trajectory] = {}
        self.requests = MetricRequests(graph.benchmark.metrics)

    def draft(self, spec: CellSpec) -> PlannedCell:
        """Return a cell with the members from its builder, but without tasks. Collect the members and all their ancestors."""
        setting = self._setting(spec)
        where = f"method '{spec.method.label}' on {spec.dataset.label} × {spec.architecture.label}"
        try:
            _check_batches(setting)
            self.requests.on(setting)
            members = self._members(spec, self._cell(spec, setting))
            self._collect(members)
        except UserError as error:
            return PlannedCell(spec, setting, problem=f"{where}: {error}")
        except (Exception, SystemExit) as error:  # a plugin's exception fails the cell
            problem = f"{where}: its builder fails: {describe_error(error)}"
            return PlannedCell(spec, setting, problem=problem, traceback="".join(traceback.format_exception(error)))
        return PlannedCell(spec, setting, members)

    def _cell(self, spec: CellSpec, setting: Setting) -> Cell:
        method = spec.method.plugin
        if id(method) not in self.method_names:  # cells of one method share its plugin
            self.method_names[id(method)] = name_with_options(method)
        asked = (self.method_names[id(method)],)
        return Cell(setting, spec.objective, spec.seed, spec.members, self.members_of, asked, self.trajectories)

    def _setting(self, spec: CellSpec) -> Setting:
        """Return the setting of a cell. Cells with the same data set, architecture and recipe share one instance."""
        dataset, architecture = spec.dataset.plugin, spec.architecture.plugin
        key = (id(dataset), id(architecture), id(spec.recipe))
        if key not in self.settings:
            self.settings[key] = Setting(dataset, architecture, spec.recipe)
        return self.settings[key]

    def _members(self, spec: CellSpec, cell: Cell) -> tuple[Weights, ...]:
        """Return the members from a cell's builder; raise `PluginError` if they are not 1 to 10,000 handles."""
        built: Any = spec.method.plugin.build(cell)
        if not isinstance(built, Iterable):
            raise PluginError(f"its builder returns {built!r:.80}; a list of handles is expected, such as [trajectory.at(5)]")
        members = tuple(itertools.islice(built, MAX_MEMBERS + 1))
        if not members or not all(isinstance(member, Weights) for member in members):
            raise PluginError(f"its builder returns {members!r:.80}; at least one handle of weights is expected")
        if len(members) > MAX_MEMBERS:
            raise PluginError(f"its builder returns more than {MAX_MEMBERS} members")
        _require_known_types(members)
        return members

    def _collect(self, members: Sequence[Weights]) -> None:
        """Collect the members and all handles they depend on, parents before children."""
        new = {member.key: member for member in members if member.key not in self.handles}
        parents: dict[str, list[str]] = {}

        def new_parents(key: str) -> list[str]:
            """Return and note what a handle depends on, without handles that were collected before."""
            found = [parent for parent in parents_of(new[key]) if parent.key not in self.handles]
            for parent in found:
                new.setdefault(parent.key, parent)
            parents[key] = [parent.key for parent in found]
            return parents[key]

        for key in ancestors(reversed(list(new)), new_parents):
            require_registered(new[key], self.graph.benchmark.catalogue)
            _check_batches(new[key].setting)
        for key in parents_first(parents):
            handle = new[key]
            self.handles[key] = handle
            if isinstance(handle, AnyCheckpoint):
                self.checkpoints[handle.trajectory.key][handle.epoch] = handle

    def add_trainings(self) -> None:
        """Add the tasks of all handles, parents before children."""
        for handle in self.handles.values():
            if isinstance(handle, AnyCheckpoint):
                checkpoints = self.checkpoints[handle.trajectory.key]
                for epoch in sorted(checkpoints):
                    if epoch <= handle.epoch:
                        self._add_training(checkpoints[epoch])
            elif isinstance(handle, DerivedWeights) and handle.task_key not in self.graph.tasks:
                self.graph.tasks[handle.task_key] = derive_task(handle)

    def _add_training(self, checkpoint: AnyCheckpoint) -> None:
        """Add the task that trains up to a checkpoint, from the checkpoint before it or from the start of the trajectory."""
        key = checkpoint.location.object
        if key in self.graph.tasks:
            return
        checkpoints = self.checkpoints[checkpoint.trajectory.key]
        earlier = [epoch for epoch in checkpoints if epoch < checkpoint.epoch]
        before = checkpoints[max(earlier)] if earlier else None
        if isinstance(checkpoint, JointCheckpoint):
            self.graph.tasks[key] = joint_train_task(checkpoint, before)
        else:
            self.graph.tasks[key] = train_task(checkpoint, before or checkpoint.trajectory.start)

    def add_cell(self, draft: PlannedCell) -> None:
        """Add a cell to the graph, with its predicting and measuring tasks and its cost."""
        members, tasks = draft.members, self.graph.tasks
        if not members:
            self.graph.cells.append(draft)
            return
        evaluated = cell_tasks(self.requests.on(draft.setting), members, draft.spec.seed)
        measures = evaluated.measures
        for task in (*evaluated.predictions, *measures.values()):
            tasks.setdefault(task.key, task)
        new = self.graph.cost_of_members(draft, tasks, self.counted)
        self.graph.cells.append(replace(draft, measures=measures, epochs_alone=epochs_alone(members), epochs_new=new))


def _check_batches(setting: Setting) -> None:
    """Raise `PluginError` for batches larger than a data set whose size was unknown until it was located."""
    for error in batch_errors(setting.recipe, setting.dataset):
        raise PluginError(error)


def parents_of(weights: Weights) -> Sequence[Weights]:
    """Return the handles of the weights that a handle is a function of."""
    parents: list[Weights] = []
    if isinstance(weights, DerivedWeights):
        parents += weights.parents
    elif isinstance(weights, AnyCheckpoint):
        parents += [*weights.trajectory.starts, *weights.trajectory.teachers]
    elif isinstance(weights, MomentWeights):
        parents.append(weights.checkpoint)
    _require_known_types(parents)
    return parents


def _require_known_types(handles: Sequence[Weights]) -> None:
    """Raise `PluginError` for handles of a plugin's own type, for which there are no tasks."""
    for handle in handles:
        if not isinstance(handle, (Checkpoint, JointCheckpoint, MomentWeights, DerivedWeights)):
            raise PluginError(f"a handle of type {type(handle).__name__} is not one the planner knows")
