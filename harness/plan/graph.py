"""All tasks of a benchmark and its cells. What of it is still to do is a function of the graph and the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.api.task import Task, key_of
from harness.api.trajectory import Setting, Weights
from harness.benchmark import Benchmark, CellSpec
from harness.plan.store_view import StoreView
from harness.plan.tasks import ensemble_key, shortened


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
