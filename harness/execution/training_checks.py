"""Checks that come before trainings: one per setting and objective, made anew by every run that trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.api.specs import TrainSpec
from harness.api.task import Outcome, Task
from harness.plan.graph import Graph
from harness.plan.tasks import check_task


class TrainingChecks:
    """Which check comes before which training, and which checks have passed in this run."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._passed: set[str] = set()

    def added_to(self, pending: Mapping[str, Task]) -> dict[str, Task]:
        """Return pending tasks with a check before each training whose check has not passed yet.

        The checks are noted in the graph. They are no part of its tasks, since nothing is stored of them.
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
