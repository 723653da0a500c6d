"""The tasks that one run does: those of the graph, shortened by what the store holds, and checks before trainings."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace

from harness.api.specs import TrainSpec
from harness.api.task import Outcome, Task
from harness.plan.graph import Graph
from harness.plan.tasks import check_task


class RunPlan:
    """The current plan of a run. The runner changes it; observers read it.

    `tasks` has every task by key, as it is done in this run. A check tries a setting and an objective before any training of
    them; `trainings_by_check` has the keys of these trainings. Checks have no results in the store: every run that trains does
    them again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._current: dict[str, Task] = {}
        self.tasks: Mapping[str, Task] = ChainMap(self._current, graph.tasks)
        self.trainings_by_check: dict[str, list[str]] = {}
        self._passed: set[str] = set()

    def update(self, pending: Mapping[str, Task]) -> dict[str, Task]:
        """Make a plan of pending tasks; return its tasks.

        Each training gets a check as a parent, unless the check has passed in this run.
        """
        checks: dict[str, Task] = {}
        tasks: dict[str, Task] = {}
        self.trainings_by_check.clear()
        for key, task in pending.items():
            tasks[key] = task
            if not isinstance(task.spec, TrainSpec):
                continue
            check = check_task(task.spec)
            self.trainings_by_check.setdefault(check.key, []).append(key)
            if check.key not in self._passed:
                checks[check.key] = check
                tasks[key] = replace(task, parents=(*task.parents, check.key))
        self._current.clear()
        self._current.update(checks)
        self._current.update(tasks)
        return dict(self._current)

    def settle_check(self, outcome: Outcome) -> list[str]:
        """Record how a check ended; return the keys of the trainings that fail with it."""
        if outcome.status == "done":
            self._passed.add(outcome.key)
            return []
        return self.trainings_by_check[outcome.key]
