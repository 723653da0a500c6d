"""The tasks that one run does: those of the graph, shortened by what the store holds, and checks before trainings."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from harness.api.derivation import Derivation
from harness.api.plugin import full_name
from harness.api.specs import DeriveSpec, EvaluationSpec, Identity, PredictSpec, TrainSpec
from harness.api.task import Outcome, Task, canonical_json
from harness.plan.ancestors import ancestors
from harness.plan.graph import Graph
from harness.plan.tasks import check_task, derivation_check_task


class RunPlan:
    """The current plan of a run. The runner changes it; observers read it.

    `tasks` has every task by key, as it is done in this run. A check tries a setting and an objective before any training of
    them, or a derivation before any training that it needs; `tasks_by_check` has the keys of the trainings or derivations that
    a check is made for. Checks have no results in the store: every run that trains or derives does them again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._current: dict[str, Task] = {}
        self.tasks: Mapping[str, Task] = ChainMap(self._current, graph.tasks)
        self.tasks_by_check: dict[str, list[str]] = {}
        self._passed: set[str] = set()
        self._refused: set[str] = set()  # derivations whose check has failed
        self._evaluations = _first_splits(graph)

    def update(self, pending: Mapping[str, Task]) -> dict[str, Task]:
        """Make a plan of pending tasks; return its tasks.

        Each training, and each derivation that has a check, gets it as a parent, unless the check has passed in this run. The
        trainings that a derivation needs wait for the derivation's check, too.
        """
        self.tasks_by_check.clear()
        checks: dict[str, Task] = {}
        waits: dict[str, list[str]] = defaultdict(list)  # task → checks that come before it
        for key, task in pending.items():
            if isinstance(task.spec, TrainSpec):
                check = check_task(task.spec, self._evaluations.get(canonical_json(task.spec.setting.dataset), ()))
                self._add(check, key, checks, waits)
        self._add_derivation_checks(pending, checks, waits)
        self._current.clear()
        self._current.update(checks)
        for key, task in pending.items():
            own = waits.get(key)
            self._current[key] = replace(task, parents=(*task.parents, *own)) if own else task
        return dict(self._current)

    def _add(self, check: Task, key: str, checks: dict[str, Task], waits: dict[str, list[str]]) -> None:
        """Add a check that is made for a task, and let the task wait for it unless it has passed."""
        self.tasks_by_check.setdefault(check.key, []).append(key)
        if check.key not in self._passed:
            checks.setdefault(check.key, check)
            waits[key].append(check.key)

    def _add_derivation_checks(self, pending: Mapping[str, Task], checks: dict[str, Task], waits: dict[str, list[str]]) -> None:
        """Add the checks of derivations, after those of the trainings that they need, and let these trainings wait."""
        derivations: dict[str, list[str]] = defaultdict(list)
        specs: dict[str, DeriveSpec] = {}
        for key, task in pending.items():
            if isinstance(task.spec, DeriveSpec) and self._has_check(task.spec.derivation):
                check = derivation_check_task(task.spec, ()).key
                derivations[check].append(key)
                specs[check] = task.spec
        trained_first = {key: list(own) for key, own in waits.items()}
        for check, keys in derivations.items():
            trainings = _trainings_before(keys, pending)
            before = dict.fromkeys(one for training in trainings for one in trained_first.get(training, ()))
            task = derivation_check_task(specs[check], tuple(before))
            for key in keys:
                self._add(task, key, checks, waits)
            if check not in self._passed:
                for training in trainings:
                    waits[training].append(check)

    def _has_check(self, derivation: Identity) -> bool:
        """Return whether a derivation's class defines what can be checked before any training."""
        cls = self.graph.benchmark.catalogue.get("derivation", full_name(derivation))
        return getattr(cls, "check", None) is not Derivation.check

    def settle_check(self, outcome: Outcome) -> list[str]:
        """Record how a check ended; return the keys of the tasks that fail with it."""
        if outcome.status == "done":
            self._passed.add(outcome.key)
            return []
        failed = self.tasks_by_check[outcome.key]
        self._refused.update(key for key in failed if isinstance(self.graph.tasks[key].spec, DeriveSpec))
        return failed

    def in_vain(self) -> set[str]:
        """Return the keys of tasks that only cells need whose members' derivations cannot succeed."""
        if not self._refused:
            return set()
        return self.graph.tasks.keys() - self.graph.needed_without(self._refused)

    def needless_checks(self, failed: str, failures: Collection[str]) -> list[str]:
        """Return the checks after a failed one that need not be tried: other tasks that failed rule their derivations out.

        Each is returned once, and counts as passed.
        """
        found = []
        for check, keys in self.tasks_by_check.items():
            if check in self._passed or failed not in self._current[check].parents:
                continue
            if all(self.graph.failed_ancestor([key], failures) for key in keys):
                found.append(check)
        self._passed.update(found)
        return found


def _trainings_before(derivations: Iterable[str], pending: Mapping[str, Task]) -> list[str]:
    """Return the keys of the pending trainings that derivations need."""

    def parents(key: str) -> list[str]:
        return [parent for parent in pending[key].parents if parent in pending]

    return [key for key in ancestors(derivations, parents) if pending[key].kind == "train"]


def _first_splits(graph: Graph) -> dict[str, tuple[EvaluationSpec, ...]]:
    """Return the first split of each evaluation set that a plan needs, by the data set's identity as canonical JSON."""
    found: dict[str, dict[str, EvaluationSpec]] = {}
    for task in graph.tasks.values():
        if isinstance(task.spec, PredictSpec) and task.spec.evaluation is not None:
            dataset = canonical_json(task.spec.setting.dataset)
            name = canonical_json(task.spec.evaluation.evaluation_set)
            found.setdefault(dataset, {}).setdefault(name, task.spec.evaluation)
    return {dataset: tuple(splits.values()) for dataset, splits in found.items()}
