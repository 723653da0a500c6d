"""The graph: all tasks and cells of a benchmark. Which tasks are pending depends on the graph and the store only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from harness.api.setting import Setting
from harness.api.task import Task, key_of
from harness.api.trajectory import Weights
from harness.benchmark import Benchmark, CellSpec
from harness.plan.ancestors import ancestors
from harness.plan.store_view import StoreView
from harness.plan.tasks import ensemble_key, shortened


@dataclass(frozen=True)
class PlannedCell:
    """A cell with its members and the tasks that measure it.

    `measures` are the measuring tasks by the metric's label. `epochs_alone` is the cost of the ensemble if it is built alone;
    `epochs_new` is its cost after the cells before it, with an empty store. Both are in epochs of plain training.

    A cell whose plugins fail during planning has neither members nor tasks. Then `problem` is the reason in one line, and
    `traceback` that of the exception, if there was one.
    """

    spec: CellSpec
    setting: Setting
    members: tuple[Weights, ...] = ()
    measures: dict[str, Task] = field(default_factory=dict)
    epochs_alone: float = 0.0
    epochs_new: float = 0.0
    problem: str = ""
    traceback: str = ""

    @cached_property
    def key(self) -> str:
        """The hash of the members' keys, in order. Without members: the hash of setting, method, label and seed."""
        if self.members:
            return ensemble_key(self.members)
        method = self.spec.method.plugin
        made_of = {"setting": self.setting.key, "method": method.name, "label": self.spec.method.label, "seed": self.spec.seed}
        return key_of({"kind": "unplanned", **made_of})


@dataclass
class Graph:
    """All tasks of a benchmark by key, parents before children, and its cells in order."""

    benchmark: Benchmark
    tasks: dict[str, Task] = field(default_factory=dict)
    cells: list[PlannedCell] = field(default_factory=list)

    def cells_by_task(self) -> dict[str, list[PlannedCell]]:
        """Return the cells that need each task, in order, by the key of the task."""
        found: dict[str, list[PlannedCell]] = {}
        for cell in self.cells:
            for key in ancestors(_cell_roots(cell), self._parents):
                found.setdefault(key, []).append(cell)
        return found

    def _parents(self, key: str) -> tuple[str, ...]:
        return self.tasks[key].parents

    def failed_ancestor(self, roots: Iterable[str], failed: Collection[str]) -> str:
        """Return the key of a failed task among `roots` and their ancestors; "" if there is none."""
        if failed:
            for key in ancestors(roots, self._parents):
                if key in failed:
                    return key
        return ""

    def needed_without(self, refused: Collection[str]) -> set[str]:
        """Return the keys of the tasks of cells whose members do not depend on refused tasks."""
        roots: list[str] = []
        for cell in self.cells:
            if not self.failed_ancestor(member_objects(cell), refused):
                roots += _cell_roots(cell)
        return set(ancestors(roots, self._parents))

    def pending(self, store: StoreView) -> dict[str, Task]:
        """Return the tasks that the cells need and whose results the store lacks, parents before children.

        A training is shortened if the store has a later epoch of its trajectory than the epoch it starts from.
        """
        needed: dict[str, Task] = {}

        def missing_parents(key: str) -> Iterable[str]:
            if store.has(key):
                return ()
            task = self.tasks[key]
            needed[key] = shortened(task, store) if task.kind == "train" else task
            return needed[key].parents

        roots: list[str] = []
        for cell in self.cells:
            roots += _cell_roots(cell)
        for _ in ancestors(roots, missing_parents):
            pass
        return {key: needed[key] for key in self.tasks if key in needed}

    def new_epochs(self, pending: dict[str, Task]) -> list[float]:
        """Return, for each cell, the cost of its pending trainings that no earlier cell needs."""
        counted: set[str] = set()
        return [self.cost_of_members(cell, pending, counted) for cell in self.cells]

    def cost_of_members(self, cell: PlannedCell, tasks: dict[str, Task], counted: set[str]) -> float:
        """Return the cost of the tasks that compute a cell's members. Skip tasks in `counted`, and add the others to it."""

        def parents(key: str) -> Iterable[str]:
            return [parent for parent in tasks[key].parents if parent in tasks]

        roots = [key for key in member_objects(cell) if key in tasks]
        return sum(tasks[key].cost for key in ancestors(roots, parents, counted))


def member_objects(cell: PlannedCell) -> Iterator[str]:
    """Yield the keys of the objects with the weights of a cell's members."""
    for member in cell.members:
        yield member.location.object


def _cell_roots(cell: PlannedCell) -> Iterator[str]:
    """Yield the keys of the results of a cell: its measurements, and the objects with its members' weights."""
    for measure in cell.measures.values():
        yield measure.key
    yield from member_objects(cell)
