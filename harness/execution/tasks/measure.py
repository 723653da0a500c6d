"""An ensemble measured with a metric."""

from __future__ import annotations

import itertools
import math
import time
from functools import partial
from typing import Any

import torch

from harness.api.ensemble import EvaluatedEnsemble
from harness.api.interfaces import MetricValue
from harness.api.task import Task, canonical_json
from harness.errors import attribute_errors
from harness.execution.environment import TaskEnvironment
from harness.execution.plugin_calls import MAX_VALUES, check_values, plugin_label
from harness.execution.tasks.resources import TaskResources
from harness.networks.interpolation import InterpolatedNetwork
from harness.results.ensemble_warnings import ensemble_warnings


def measure(task: Task, resources: TaskResources) -> None:
    """Store the values of a metric, and what makes the ensemble degenerate."""
    began = time.monotonic()
    environment = resources.environment(task.spec["setting"])
    metric = resources.catalogue.from_identity("metric", task.spec["metric"])
    who = plugin_label(resources.catalogue, "metric", metric)
    ensemble = _ensemble(task.spec, environment, resources)
    with attribute_errors(who, "measure"):
        values = list(itertools.islice(metric.measure(ensemble), MAX_VALUES + 1))
    check_values(f"{who}: measure gave", values, metric.name)
    warnings = ensemble_warnings(ensemble.logits, ensemble.labels)
    resources.put(task, began, {}, values=[_value_json(value) for value in values], warnings=warnings)


def _ensemble(spec: dict[str, Any], environment: TaskEnvironment, resources: TaskResources) -> EvaluatedEnsemble:
    """Return the ensemble of a measurement; metrics of one ensemble come one after another and share it."""
    name = canonical_json([spec["predictions"], spec["members"], spec["seed"]])
    if resources.ensemble is None or resources.ensemble[0] != name:
        with resources.watch("store"):
            logits = torch.stack([resources.store.tensors(key, "logits")["logits"] for key in spec["predictions"]])
        labels = environment.test.labels.numpy()
        make_network = partial(_interpolated, spec, environment, resources)
        resources.ensemble = name, EvaluatedEnsemble(logits.numpy(), labels, spec["seed"], make_network)
    return resources.ensemble[1]


def _interpolated(spec: dict[str, Any], environment: TaskEnvironment, resources: TaskResources) -> InterpolatedNetwork:
    """Return the network between the members; a warning names running statistics that cannot be recomputed."""
    with resources.watch("store"):
        states = [resources.store.tensors(where["object"], where["part"]) for where in spec["members"]]
    network = InterpolatedNetwork(
        environment.network(),
        states,
        environment.test_images,
        environment.train_images,
        label=environment.who,
        stopping=resources.context.stopping,
    )
    if network.statistics.unexplained:
        names = ", ".join(f"'{name}'" for name in network.statistics.unexplained)
        message = f"{environment.who}: {names}: training changes it, but not as a moving average; interpolated, not recomputed"
        resources.context.emit({"event": "warning", "time": time.time(), "message": message})
    return network


def _value_json(value: MetricValue) -> dict[str, Any]:
    error = value.standard_error
    return {
        "metric": value.metric,
        "value": _number(value.value),
        "standard_error": None if error is None else _number(error),
        "unit": value.unit,
        "better": value.better,
    }


def _number(value: float) -> float | str:
    """Return a number, or the text of one that JSON lacks (NaN, infinities), which `float` reads."""
    value = float(value)
    return value if math.isfinite(value) else repr(value)
