"""The tasks that one run does: those of the graph, shortened by what the store holds, and checks before trainings."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace

from harness.api.specs import EvaluationSpec, PredictSpec, TrainSpec
from harness.api.task import Outcome, Task, canonical_json
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
        self._evaluations = _first_splits(graph)

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
            check = check_task(task.spec, self._evaluations.get(canonical_json(task.spec.setting.dataset), ()))
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


def _first_splits(graph: Graph) -> dict[str, tuple[EvaluationSpec, ...]]:
    """Return the first split of each evaluation set that a plan needs, by the data set's identity as canonical JSON."""
    found: dict[str, dict[str, EvaluationSpec]] = {}
    for task in graph.tasks.values():
        if isinstance(task.spec, PredictSpec) and task.spec.evaluation is not None:
            dataset = canonical_json(task.spec.setting.dataset)
            name = canonical_json(task.spec.evaluation.evaluation_set)
            found.setdefault(dataset, {}).setdefault(name, task.spec.evaluation)
    return {dataset: tuple(splits.values()) for dataset, splits in found.items()}
