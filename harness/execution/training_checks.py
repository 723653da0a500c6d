"""Checks that precede trainings: one per setting and objective. Every run that trains does them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.api.specs import TrainSpec
from harness.api.task import Outcome, Task
from harness.plan.graph import Graph
from harness.plan.tasks import check_task


class TrainingChecks:
    """Inserts checks before trainings, and records which checks have passed in this run."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._passed: set[str] = set()

    def added_to(self, pending: Mapping[str, Task]) -> dict[str, Task]:
        """Return the pending tasks, and a check as a parent of each training whose check has not passed yet.

        The checks are recorded in the graph, but not among its tasks, since a check has no result in the store.
        """
        checks: dict[str, Task] = {}
        trainings: dict[str, list[str]] = {}
        gated: dict[str, Task] = {}
        for key, task in pending.items():
            gated[key] = task
            if not isinstance(task.spec, TrainSpec):
                continue
            check = check_task(task.spec)
            trainings.setdefault(check.key, []).append(key)
            if check.key not in self._passed:
                checks[check.key] = check
                gated[key] = replace(task, parents=(*task.parents, check.key))
        self._graph.checks.update(checks)
        self._graph.checked.update(trainings)
        return {**checks, **gated}

    def settle(self, outcome: Outcome) -> list[str]:
        """Record how a check ended; return the keys of the trainings that fail with it."""
        if outcome.status == "done":
            self._passed.add(outcome.key)
            return []
        return self._graph.checked[outcome.key]
