"""Cells → handles → deduplicated tasks. The planner merges equal keys, cuts trajectories at their taps and counts the cost.

The graph is a function of the benchmark alone; what of it is still to do is a function of the graph and the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.benchmark import Benchmark, CellSpec, Named
from harness.errors import PluginError
from harness.interfaces import Metric
from harness.task import FORMAT, Task, key_of
from harness.trajectory import Cell, Checkpoint, Derived, Setting, Trajectory, Weights


class Shelf(Protocol):
    """What the planner asks of a store."""

    def has(self, key: str) -> bool: ...
    def epochs(self, trajectory: str) -> dict[int, str]: ...


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its members and the tasks that measure it; `epochs_alone` is what its ensemble costs if built alone, and
    `epochs_new` what remains of that after the cells before it, as if the store were empty."""

    spec: CellSpec
    members: tuple[Weights, ...]
    measures: dict[str, Task]
    epochs_alone: float
    epochs_new: float

    @property
    def key(self) -> str:
        """The key of the ensemble: of its members, in order."""
        return ensemble_key(self.members)


@dataclass
class Graph:
    """All tasks of a benchmark by key, parents before children, and its cells in order."""

    benchmark: Benchmark
    tasks: dict[str, Task] = field(default_factory=dict)
    cells: list[PlannedCell] = field(default_factory=list)

    def pending(self, store: Shelf) -> dict[str, Task]:
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

    def _collect(self, root: str, store: Shelf, needed: dict[str, Task], stored: dict[str, bool]) -> None:
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


def plan(benchmark: Benchmark) -> Graph:
    """Build the graph of a benchmark. Linear in the number of cells. Raise `PluginError` for a builder that fails or does not
    return handles."""
    graph = Graph(benchmark)
    planner = _Planner(graph)
    built = [(spec, planner.members(spec)) for spec in benchmark.cells()]
    planner.add_trainings()
    for spec, members in built:
        planner.add_cell(spec, members)
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
        if isinstance(weights, Derived):
            stack.extend(weights.parents)
        elif isinstance(weights, Checkpoint):
            trajectory = weights.trajectory
            if trajectory.objective.teacher is not None:
                teachers.setdefault(trajectory.objective.teacher)
            known = trajectory in reach
            reach[trajectory] = max(reach.get(trajectory, 0), weights.epoch)
            if trajectory.start is not None and not known:
                stack.append(trajectory.start)
    own = sum((end - t.start_epoch) * t.objective.epoch_cost for t, end in reach.items())
    return own + (epochs_alone(teachers) if teachers else 0.0)


def shortened(task: Task, store: Shelf) -> Task:
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

    def members(self, spec: CellSpec) -> tuple[Weights, ...]:
        """Ask a cell's builder for its members and note every handle they stand on."""
        cell = Cell(self._setting(spec), spec.objective, spec.seed, spec.members)
        where = f"method '{spec.method.label}' on {spec.dataset.label} × {spec.architecture.label}"
        try:
            members = tuple(spec.method.plugin.build(cell))
        except Exception as error:  # a builder is a plugin: name it, whatever it raises
            raise PluginError(f"{where}: its builder fails: {type(error).__name__}: {error}") from error
        if not members or not all(isinstance(member, Weights) for member in members):
            raise PluginError(f"{where}: its builder returns {members!r:.80}; at least one handle of weights is wanted")
        for member in members:
            self._note(member)
        return members

    def _setting(self, spec: CellSpec) -> Setting:
        parts = (spec.dataset.plugin, spec.architecture.plugin, spec.recipe)
        key = (id(parts[0]), id(parts[1]), id(parts[2]))
        if key not in self.settings:
            self.settings[key] = Setting(*parts)
        return self.settings[key]

    def _note(self, weights: Weights) -> None:
        """Visit a handle after all that it is a function of."""
        stack: list[tuple[Weights, bool]] = [(weights, False)]
        while stack:
            handle, parents_done = stack.pop()
            if handle.key in self.handles:
                continue
            if not parents_done:
                stack.append((handle, True))
                stack.extend((parent, False) for parent in _parents(handle))
                continue
            self.handles[handle.key] = handle
            if isinstance(handle, Checkpoint):
                self.taps.setdefault(handle.trajectory.key, {})[handle.epoch] = handle

    def add_trainings(self) -> None:
        """Make the tasks that train and derive, every parent before its children."""
        for handle in self.handles.values():
            if isinstance(handle, Checkpoint):
                for epoch in sorted(e for e in self.taps[handle.trajectory.key] if e <= handle.epoch):
                    self._train(self.taps[handle.trajectory.key][epoch])
            elif isinstance(handle, Derived) and handle.task_key not in self.graph.tasks:
                self.graph.tasks[handle.task_key] = derive_task(handle)

    def _train(self, checkpoint: Checkpoint) -> None:
        if checkpoint.key in self.graph.tasks:
            return
        earlier = [e for e in self.taps[checkpoint.trajectory.key] if e < checkpoint.epoch]
        start = self.taps[checkpoint.trajectory.key][max(earlier)] if earlier else checkpoint.trajectory.start
        self.graph.tasks[checkpoint.key] = train_task(checkpoint, start)

    def add_cell(self, spec: CellSpec, members: tuple[Weights, ...]) -> None:
        """Make the tasks that predict and measure, and count what the cell costs."""
        tasks = self.graph.tasks
        predictions = [predict_task(member) for member in members]
        for task in predictions:
            tasks.setdefault(task.key, task)
        measures = {named.label: measure_task(named, members, predictions, spec.seed) for named in self.graph.benchmark.metrics}
        for task in measures.values():
            tasks.setdefault(task.key, task)
        cell = PlannedCell(spec, members, measures, epochs_alone(members), 0.0)
        new = sum(task.cost for task in self.graph._closure(cell, tasks, self.counted))
        self.graph.cells.append(PlannedCell(spec, members, measures, cell.epochs_alone, new))


def _parents(weights: Weights) -> list[Weights]:
    if isinstance(weights, Derived):
        return list(weights.parents)
    if isinstance(weights, Checkpoint):
        trajectory = weights.trajectory
        return [w for w in (trajectory.start, trajectory.objective.teacher) if w is not None]
    raise PluginError(f"a handle of type {type(weights).__name__} is not one the planner knows")


def train_task(checkpoint: Checkpoint, start: Checkpoint | None) -> Task:
    """Return the task that trains up to a checkpoint, from an earlier one of the same trajectory, from the one it was forked
    at, or from initialisation."""
    trajectory = checkpoint.trajectory
    teacher = trajectory.objective.teacher
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
    siblings = key_of(["train", trajectory.setting.key, begin, checkpoint.epoch, trajectory.objective.name, trajectory.held])
    cost = (checkpoint.epoch - begin) * trajectory.objective.epoch_cost
    return Task(checkpoint.key, "train", spec, parents, siblings, cost)


def derive_task(weights: Derived) -> Task:
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


def measure_task(named: Named, members: Sequence[Weights], predictions: Sequence[Task], seed: int) -> Task:
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
