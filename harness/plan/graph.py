"""Cells → handles → deduplicated tasks. The planner merges equal keys, cuts trajectories at their taps and counts the cost.

The graph is a function of the benchmark alone; what of it is still to do is a function of the graph and the store.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.api.interfaces import Metric
from harness.api.task import FORMAT, Task, key_of
from harness.api.trajectory import Cell, Checkpoint, DerivedWeights, Setting, Trajectory, Weights
from harness.benchmark import Benchmark, CellSpec, LabeledPlugin
from harness.errors import PluginError
from harness.text import describe_error

_MOST_MEMBERS = 10_000  # what a benchmark file may ask for; a builder may yield without end


class StoreView(Protocol):
    """What the planner asks of a store."""

    def has(self, key: str) -> bool: ...
    def epochs(self, trajectory: str) -> dict[int, str]: ...


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its members and the tasks that measure it; `epochs_alone` is what its ensemble costs if built alone, and
    `epochs_new` what remains of that after the cells before it, as if the store were empty.

    A cell whose plugins fail at planning has neither members nor tasks; `problem` says why, in a line, and `traceback` where.
    """

    spec: CellSpec
    setting: Setting
    members: tuple[Weights, ...] = ()
    measures: dict[str, Task] = field(default_factory=dict)
    epochs_alone: float = 0.0
    epochs_new: float = 0.0
    problem: str = ""
    traceback: str = ""

    @property
    def key(self) -> str:
        """The key of the ensemble: of its members, in order. Of a cell without members: of what it was to be."""
        if self.members:
            return ensemble_key(self.members)
        method = self.spec.method.plugin
        made_of = {"setting": self.setting.key, "method": method.name, "label": self.spec.method.label, "seed": self.spec.seed}
        return key_of({"kind": "unplanned", **made_of})


@dataclass
class Graph:
    """All tasks of a benchmark by key, parents before children, and its cells in order.

    `checks` are the tasks that a run does before its trainings; nothing is stored of them.
    """

    benchmark: Benchmark
    tasks: dict[str, Task] = field(default_factory=dict)
    checks: dict[str, Task] = field(default_factory=dict)
    cells: list[PlannedCell] = field(default_factory=list)

    def pending(self, store: StoreView) -> dict[str, Task]:
        """Return the tasks that must still be done, parents before children: what the measurements need and the store lacks.

        A training is cut short where the store already holds a later epoch of it.
        """
        needed: dict[str, Task] = {}
        stored: dict[str, bool] = {}
        for cell in self.cells:
            for measure in cell.measures.values():
                self._collect(measure.key, store, needed, stored)
            for member in cell.members:
                self._collect(member.location["object"], store, needed, stored)
        return {key: needed[key] for key in self.tasks if key in needed}

    def _collect(self, root: str, store: StoreView, needed: dict[str, Task], stored: dict[str, bool]) -> None:
        stack = [root]
        while stack:
            key = stack.pop()
            if key in stored:
                continue
            stored[key] = store.has(key)
            if not stored[key]:
                task = shortened(self.tasks[key], store) if self.tasks[key].kind == "train" else self.tasks[key]
                needed[key] = task
                stack.extend(task.parents)

    def new_epochs(self, pending: dict[str, Task]) -> list[float]:
        """Return for each cell the epochs that are trained for it first, of those that are pending."""
        counted: set[str] = set()
        return [sum(t.cost for t in self._closure(cell, pending, counted)) for cell in self.cells]

    def _closure(self, cell: PlannedCell, among: dict[str, Task], seen: set[str]) -> Iterator[Task]:
        """Yield the tasks of a cell's members that nobody has seen before."""
        stack = [member.location["object"] for member in cell.members]
        while stack:
            key = stack.pop()
            if key in seen or key not in among:
                continue
            seen.add(key)
            yield among[key]
            stack.extend(among[key].parents)


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


def ensemble_key(members: Sequence[Weights]) -> str:
    """Return the key of an ensemble."""
    return key_of({"kind": "ensemble", "members": [member.key for member in members]})


def epochs_alone(members: Iterable[Weights]) -> float:
    """Return the epochs of training that weights need if built alone, in epochs of plain training.

    What the members share among themselves counts once. Their teachers are another ensemble, trained beforehand: their
    epochs are added, and nothing is shared with the students.
    """
    reach: dict[Trajectory, int] = {}
    teachers: dict[Weights, None] = {}
    stack = list(members)
    while stack:
        weights = stack.pop()
        if isinstance(weights, DerivedWeights):
            stack.extend(weights.parents)
        elif isinstance(weights, Checkpoint):
            trajectory = weights.trajectory
            if trajectory.teacher is not None:
                teachers.setdefault(trajectory.teacher)
            known = trajectory in reach
            reach[trajectory] = max(reach.get(trajectory, 0), weights.epoch)
            if trajectory.start is not None and not known:
                stack.append(trajectory.start)
    own = sum((end - t.start_epoch) * t.objective.epoch_cost for t, end in reach.items())
    return own + (epochs_alone(teachers) if teachers else 0.0)


def shortened(task: Task, store: StoreView) -> Task:
    """Return a training task that starts from the latest epoch of its trajectory that is stored."""
    spec = task.spec
    later = {e: key for e, key in store.epochs(spec["trajectory_key"]).items() if spec["from"]["epoch"] < e < spec["epoch"]}
    if not later:
        return task
    epoch = max(later)
    start = {"epoch": epoch, "object": later[epoch], "part": "weights", "own": True}
    teacher = task.parents[1:] if task.spec["from"]["object"] else task.parents
    cost = task.cost * (spec["epoch"] - epoch) / (spec["epoch"] - spec["from"]["epoch"])
    return Task(task.key, task.kind, {**spec, "from": start}, (later[epoch], *teacher), task.group, cost)


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
        members = tuple(itertools.islice(spec.method.plugin.build(cell), _MOST_MEMBERS + 1))
        if not members or not all(isinstance(member, Weights) for member in members):
            raise PluginError(f"its builder returns {members!r:.80}; at least one handle of weights is wanted")
        if len(members) > _MOST_MEMBERS:
            raise PluginError(f"its builder returns more than {_MOST_MEMBERS} members")
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


def train_task(checkpoint: Checkpoint, start: Checkpoint | None) -> Task:
    """Return the task that trains up to a checkpoint, from an earlier one of the same trajectory, from the one it was forked
    at, or from initialization."""
    trajectory = checkpoint.trajectory
    teacher = trajectory.teacher
    begin = 0 if start is None else start.epoch
    spec = {
        "kind": "train",
        "setting": trajectory.setting.spec,
        "trajectory": trajectory.spec,
        "trajectory_key": trajectory.key,
        "epoch": checkpoint.epoch,
        "from": {
            "epoch": begin,
            "object": None if start is None else start.location["object"],
            "part": None if start is None else start.location["part"],
            "own": start is not None and start.trajectory == trajectory,
        },
        "teacher": None if teacher is None else {**teacher.location, "setting": teacher.setting.spec},
    }
    parents = tuple(w.location["object"] for w in (start, teacher) if w is not None)
    siblings = key_of(
        ["train", trajectory.setting.key, begin, checkpoint.epoch, trajectory.objective.name, trajectory.constant_learning_rate]
    )
    cost = (checkpoint.epoch - begin) * trajectory.objective.epoch_cost
    return Task(checkpoint.key, "train", spec, parents, siblings, cost)


def check_task(train: Task) -> Task:
    """Return the task that tries a training's setting and objective on two images, before any training of them."""
    teacher = train.spec["teacher"]
    spec = {
        "kind": "check",
        "format": FORMAT,
        "setting": train.spec["setting"],
        "objective": {**train.spec["trajectory"]["objective"], "teacher": None},
        "teacher": None if teacher is None else teacher["setting"],
    }
    key = key_of(spec)
    return Task(key, "check", spec, (), key)


def derive_task(weights: DerivedWeights) -> Task:
    """Return the task that computes all outputs of a derivation."""
    spec = {
        **weights.task_spec,
        "setting": weights.setting.spec,
        "parent_locations": [parent.location for parent in weights.parents],
    }
    parents = tuple(dict.fromkeys(parent.location["object"] for parent in weights.parents))
    return Task(weights.task_key, "derive", spec, parents, key_of(["derive", weights.setting.key]))


def predict_task(weights: Weights) -> Task:
    """Return the task that computes a network's logits on the test split, once for all metrics."""
    identity = {"kind": "predict", "format": FORMAT, "weights": weights.key, "setting": weights.setting.key, "split": "test"}
    spec = {"kind": "predict", "setting": weights.setting.spec, "weights": weights.key, "location": weights.location}
    parent = weights.location["object"]
    return Task(
        key_of(identity), "predict", {**spec, "identity": identity}, (parent,), key_of(["predict", weights.setting.key])
    )


def measure_task(named: LabeledPlugin, members: Sequence[Weights], predictions: Sequence[Task], seed: int) -> Task:
    """Return the task that measures an ensemble with a metric."""
    metric: Metric = named.plugin
    setting = members[0].setting
    identity = {
        "kind": "measure",
        "format": FORMAT,
        "metric": metric.identity,
        "members": [member.key for member in members],
        "setting": setting.key,
        "seed": seed,
    }
    spec: dict[str, Any] = {
        "kind": "measure",
        "setting": setting.spec,
        "metric": metric.identity,
        "seed": seed,
        "members": [member.location for member in members],
        "predictions": [task.key for task in predictions],
        "identity": identity,
    }
    objects = (member.location["object"] for member in members)
    parents = tuple(dict.fromkeys((*(task.key for task in predictions), *objects)))
    return Task(key_of(identity), "measure", spec, parents, key_of(["measure", ensemble_key(members), seed]))
