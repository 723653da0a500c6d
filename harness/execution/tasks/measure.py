"""Measure an ensemble with a metric."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from functools import partial

import torch

from harness.api.ensemble import DerivationRecord, EvaluatedEnsemble
from harness.api.interfaces import Metric, MetricValue
from harness.api.plugin import Plugin
from harness.api.predictions import Predictions
from harness.api.specs import MeasureSpec
from harness.api.task import Task
from harness.errors import attribute_errors
from harness.execution.environment import TaskEnvironment
from harness.execution.measured_values import EXAMPLES, values_json
from harness.execution.plugin_calls import plugin_label
from harness.execution.plugin_results import MAX_VALUES, check_direction, check_examples, check_values
from harness.execution.tasks.resources import TaskResources
from harness.networks.flat_network import StateDict
from harness.networks.interpolation import InterpolatedNetwork
from harness.results.ensemble_warnings import ensemble_warnings
from harness.results.examples import encode_examples
from harness.telemetry.events import RunWarning


def measure(task: Task, spec: MeasureSpec, resources: TaskResources) -> None:
    """Compute and store the values of a metric, and warnings if the ensemble is degenerate."""
    began = time.monotonic()
    environment = resources.environment(spec.setting)
    metric: Metric = resources.catalogue.from_identity("metric", spec.metric)
    label = plugin_label(resources.catalogue, "metric", metric)
    ensemble = _ensemble(spec, environment, resources)
    if spec.evaluation_splits:
        ensemble = ensemble.with_evaluations(partial(_predictions_on, spec, metric, resources))
    with attribute_errors(label, "measure"):
        values = list(itertools.islice(metric.measure(ensemble), MAX_VALUES + 1))
    what = f"{label}: measure gave"
    check_values(what, values, metric.name)
    check_direction(what, metric, values[0])
    check_examples(what, values, len(ensemble.labels))
    warnings = ensemble_warnings(ensemble.logits, ensemble.labels)
    resources.put(task, began, _parts(values[0]), {"values": values_json(values), "warnings": warnings})


def _predictions_on(
    spec: MeasureSpec, metric: Metric, resources: TaskResources, evaluation_set: Plugin
) -> Iterator[tuple[str, Predictions]]:
    """Yield the stored predictions on the splits of an evaluation set that the metric's options name."""
    options = [option for option, chosen in metric.chosen.items() if chosen is evaluation_set]
    if not options:
        raise ValueError(f"evaluation set '{evaluation_set.full_name}': no option of this metric names it")
    for evaluation in spec.evaluation_splits:
        if evaluation.option != options[0]:
            continue
        with resources.watch("store"):
            stored = [resources.store.tensors(key, "logits") for key in evaluation.predictions]
        logits = torch.stack([tensors["logits"] for tensors in stored])
        yield evaluation.split, Predictions(logits.numpy(), stored[0]["labels"].numpy())


def _parts(value: MetricValue) -> dict[str, StateDict]:
    """Return the parts of a measurement's object: the main value's examples, if it has any."""
    if value.examples is None:
        return {}
    encoded = encode_examples(value.examples, value.unit)
    if encoded is None:
        return {}
    return {EXAMPLES: {EXAMPLES: torch.from_numpy(encoded)}}


def _ensemble(spec: MeasureSpec, environment: TaskEnvironment, resources: TaskResources) -> EvaluatedEnsemble:
    """Return the ensemble to measure. Consecutive metrics of one ensemble share it."""
    known = resources.known_ensemble(spec)
    if known is not None:
        return known
    with resources.watch("store"):
        logits = torch.stack([resources.store.tensors(key, "logits")["logits"] for key in spec.predictions])
    labels = environment.test.labels.numpy()

    def make_network() -> InterpolatedNetwork:
        return _interpolated(spec, environment, resources)

    ensemble = EvaluatedEnsemble(logits.numpy(), labels, spec.seed, make_network, lambda: _derivations(spec, resources))
    resources.keep_ensemble(spec, ensemble)
    return ensemble


def _derivations(spec: MeasureSpec, resources: TaskResources) -> tuple[DerivationRecord, ...]:
    """Return how the derived members were made. The outputs of one computation are one stored object."""
    records = []
    for key in dict.fromkeys(location.object for location in spec.members):
        meta = resources.store.meta(key)
        if meta["kind"] == "derive":
            name = meta["spec"]["derivation"]["name"]
            records.append(DerivationRecord(name, meta["seconds"], meta["facts"]))
    return tuple(records)


def _interpolated(spec: MeasureSpec, environment: TaskEnvironment, resources: TaskResources) -> InterpolatedNetwork:
    """Return the network at interpolated weights. Emit a warning about running statistics that cannot be recomputed."""
    with resources.watch("store"):
        states = [resources.tensors(location) for location in spec.members]
    network = InterpolatedNetwork(
        environment.network(),
        states,
        environment.test_images,
        environment.train_images,
        label=environment.architecture_label,
        stopping=resources.context.stopping,
        splits=environment.split,
        corrections=partial(resources.catalogue.choose, "correction"),
    )
    if network.statistics.unexplained:
        names = ", ".join(f"'{name}'" for name in network.statistics.unexplained)
        why = "training changes it, but not as a moving average; interpolated, not recomputed"
        resources.context.emit(RunWarning(message=f"{environment.architecture_label}: {names}: {why}"))
    return network
