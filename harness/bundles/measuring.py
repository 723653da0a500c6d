"""Measure the ensembles of a bundle again, from its members, in a store of its own that is removed afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harness.api.evaluation_set import evaluation_sets
from harness.api.interfaces import MetricValue
from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.api.setting import Setting
from harness.api.specs import Identity, MeasureSpec
from harness.api.task import Task, canonical_json, key_of
from harness.benchmark import LabeledPlugin
from harness.bundles.bundle import Bundle, EnsembleEntry, Place
from harness.bundles.member_source import located_dataset
from harness.bundles.member_weights import read_weights
from harness.bundles.published_setting import PublishedSetting
from harness.bundles.stored_weights import StoredWeights
from harness.errors import DamagedObject
from harness.execution.context import RunContext
from harness.execution.engines.local import LocalEngine
from harness.execution.environment import TaskEnvironment
from harness.execution.measured_values import EXAMPLES, measured_from_json
from harness.execution.plugin_calls import build_module, make_architecture, plugin_label
from harness.execution.queue import TaskQueue
from harness.execution.runner import engine_context
from harness.execution.task_files import task_json
from harness.plan.evaluations import MetricRequests
from harness.plan.tasks import cell_tasks
from harness.registry.catalogue import Catalogue
from harness.registry.recorded_identity import as_recorded, present_identity
from harness.results.examples import decode_examples
from harness.store import Store


@dataclass(frozen=True)
class MeasuringEnvironment:
    """Where a bundle is measured again: plugins, a folder for the store, the data root, and the device.

    `workers` is the number of processes, None for as many as a run would have. `threads` is the number of CPU threads per task.
    """

    catalogue: Catalogue
    folder: Path
    data: Path
    device: str
    workers: int | None
    threads: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class Remeasured:
    """What a metric measured for an ensemble here, or `failure`, the reason why it did not.

    `key` is the key that the measurement had when the bundle was published. `examples` are the contributions of test images to
    the main value, and `images` is the number of test images. `warning` says why the ensemble is degenerate.
    """

    key: str
    values: tuple[MetricValue, ...] = ()
    examples: np.ndarray | None = None
    images: int = 1
    warning: str = ""
    failure: str = ""


Results = Mapping[tuple[Place, str], Remeasured]
"""Place of an ensemble and label of a metric → what was measured."""


def measure_again(bundle: Bundle, metrics: Sequence[LabeledPlugin], environment: MeasuringEnvironment) -> Results:
    """Return what each metric measures for each ensemble of a bundle.

    Raise `UserError` if a plugin or a data set is missing, and `BundleError` if weights do not fit their network.
    """
    settings = _Settings(bundle, environment)
    requests = MetricRequests(metrics)
    store = Store(environment.folder / "store")
    store.prepare()
    tasks: dict[str, Task] = {}
    measures: dict[tuple[Place, str], Task] = {}
    for entry in bundle.ensembles:
        members = settings.handles(entry)
        for member in members:
            settings.store_weights(store, member)
        evaluated = cell_tasks(requests.on(members[0].setting), members, entry.seed)
        tasks.update((task.key, task) for task in (*evaluated.predictions, *evaluated.measures.values()))
        measures.update(((entry.place, label), task) for label, task in evaluated.measures.items())
    settings.require_data(metrics)
    environment.say(f"measuring {len(bundle.ensembles)} ensembles of {len(store.keys())} networks again: {len(tasks)} tasks")
    with redirect_stdout(sys.stderr):
        failures = _do(tasks, store, environment)
    recorded = _recorded_metrics(bundle)
    results = {}
    for (place, label), task in measures.items():
        results[place, label] = _result(task, published_key(task, recorded[label]), store, failures)
    return results


def _recorded_metrics(bundle: Bundle) -> dict[str, Identity]:
    """Return the identities of the benchmark's metrics as they were published, by label."""
    return {str(entry["label"]): entry for entry in bundle.benchmark["metrics"]}


def published_key(task: Task, recorded: Identity) -> str:
    """Return the key that a measurement had when its metric had the recorded identity."""
    spec = task.spec
    assert isinstance(spec, MeasureSpec)
    return key_of({**spec.identity, "metric": as_recorded(spec.identity["metric"], spec.metric, recorded)})


class _Settings:
    """Handles of members, with the settings that their configurations describe. Equal settings are one value."""

    def __init__(self, bundle: Bundle, environment: MeasuringEnvironment) -> None:
        self._bundle = bundle
        self._environment = environment
        self._known: dict[str, Setting] = {}

    def handles(self, entry: EnsembleEntry) -> list[StoredWeights]:
        return [StoredWeights(self._setting(key), key) for key in entry.keys]

    def store_weights(self, store: Store, member: StoredWeights) -> None:
        """Put a member's weights into the store, unless they are there. Raise `UserError` if they do not fit the network."""
        if store.present(member.key):
            return
        config = self._bundle.config(member.key)
        architecture = member.setting.architecture
        label = plugin_label(self._environment.catalogue, "architecture", architecture)
        module = build_module(architecture, label, member.setting.dataset, 0)
        path = self._bundle.weights_file(member.key)
        state = read_weights(path, config.weights, like=module.state_dict())
        store.put(member.key, {"kind": "member"}, {"weights": state})

    def require_data(self, metrics: Sequence[LabeledPlugin]) -> None:
        """Load each data set once, and locate the metrics' evaluation sets.

        Raise `UserError` if files are not on this machine: that is no difference.
        """
        checked: set[str] = set()
        for setting in self._known.values():
            name = canonical_json(setting.spec.dataset)
            if name not in checked:
                checked.add(name)
                TaskEnvironment(self._environment.catalogue, setting.spec, self._environment.data, torch.device("cpu"))
                for labeled in metrics:
                    for evaluation_set in evaluation_sets(labeled.plugin).values():
                        evaluation_set.locate(setting.dataset, self._environment.data)

    def _setting(self, key: str) -> Setting:
        spec = self._bundle.config(key).setting
        name = canonical_json(spec.to_json())
        if name not in self._known:
            catalogue, data = self._environment.catalogue, self._environment.data
            dataset = located_dataset(catalogue, spec.dataset, data)
            architecture = make_architecture(catalogue, present_identity(catalogue, "architecture", spec.architecture), data)
            self._known[name] = PublishedSetting(dataset, architecture, options_from_json(Recipe, spec.recipe), spec)
        return self._known[name]


def _do(tasks: Mapping[str, Task], store: Store, environment: MeasuringEnvironment) -> dict[str, str]:
    """Do all tasks that can be done; return the messages of those that failed, by key. What needs their results is left."""
    engine = LocalEngine(LocalEngine.Options(workers=environment.workers))
    queue = TaskQueue(dict(tasks))
    failures: dict[str, str] = {}
    running = 0
    engine.open(engine_context(_context(store, environment), environment.folder))
    try:
        while running or queue:
            while queue and engine.has_capacity:
                running += _submit(queue.take(), store, engine)
            for outcome in engine.wait():
                running -= 1
                if outcome.status == "done":
                    queue.finish(outcome.key)
                else:
                    failures[outcome.key] = outcome.message or outcome.status
    finally:
        engine.close()
    return failures


def _context(store: Store, environment: MeasuringEnvironment) -> RunContext:
    """Return what the engine works with. Events are dropped, since a verification has no event log."""
    return RunContext(
        environment.catalogue,
        store.root,
        environment.data,
        environment.device,
        emit=lambda event: None,
        stopping=lambda: False,
        threads=environment.threads,
    )


def _submit(group: Sequence[Task], store: Store, engine: LocalEngine) -> int:
    """Give tasks to the engine; return their number."""
    for task in group:
        store.write_task(task.key, task_json(task))
    engine.submit(group)
    return len(group)


def _result(task: Task, key: str, store: Store, failures: Mapping[str, str]) -> Remeasured:
    """Return what a task measured. `key` is the published key of the measurement."""
    try:
        measured = measured_from_json(store.meta(task.key))
        examples = None
        if measured.has_examples:
            stored = store.arrays(task.key, EXAMPLES)[EXAMPLES]
            examples = decode_examples(stored, measured.values[0].unit)
        assert isinstance(task.spec, MeasureSpec)
        images = store.meta(task.spec.predictions[0])["examples"]
        return Remeasured(key, measured.values, examples, images, "; ".join(measured.warnings))
    except DamagedObject:
        return Remeasured(key, failure=_reason((task.key, *task.parents), failures))


def _reason(keys: Iterable[str], failures: Mapping[str, str]) -> str:
    for key in keys:
        if key in failures:
            return failures[key]
    return "it was not measured"
