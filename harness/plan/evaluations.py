"""The splits of evaluation sets that metrics ask for, checked against a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.api.evaluation_set import EvaluationSet, evaluation_sets
from harness.api.interfaces import Dataset, Metric
from harness.api.setting import Setting
from harness.api.specs import EvaluationSpec
from harness.benchmark import LabeledPlugin
from harness.benchmark.dataset_checks import dataset_errors
from harness.errors import HarnessError, PluginError
from harness.text import describe_error

MAX_SPLITS = 10_000
"""Most splits of an evaluation set."""

MetricEvaluations = Mapping[str, Sequence[EvaluationSpec]]
"""The splits that a metric asks for, by the option that names their evaluation set."""


def metric_evaluations(metric: Metric, dataset: Dataset) -> MetricEvaluations:
    """Return the splits that a metric asks for on a data set. Raise `PluginError` if an evaluation set does not give them."""
    found = {}
    for option, evaluation_set in evaluation_sets(metric).items():
        label = f"evaluation set '{evaluation_set.full_name}'"
        try:
            evaluation_set.check(dataset)
            found[option] = _specs(evaluation_set, dataset, label)
        except ValueError as error:
            raise PluginError(str(error)) from error
        except HarnessError:
            raise
        except Exception as error:  # a plugin may raise anything
            raise PluginError(f"{label}: splits or fingerprint raised {describe_error(error)}") from error
    return found


def _specs(evaluation_set: EvaluationSet, dataset: Dataset, label: str) -> tuple[EvaluationSpec, ...]:
    names: Any = evaluation_set.splits(dataset)
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(_is_name(name) for name in names):
        raise PluginError(f"{label}: splits gave {names!r:.80}; a list of printable names of 1 to 60 characters is expected")
    if not 1 <= len(names) <= MAX_SPLITS or len(set(names)) < len(names):
        raise PluginError(f"{label}: splits gave {len(names)} names; 1 to {MAX_SPLITS} different ones are expected")
    specs = []
    for name in names:
        fingerprint: Any = evaluation_set.fingerprint(dataset, name)
        if not isinstance(fingerprint, str) or not fingerprint:
            raise PluginError(f"{label}: fingerprint of split '{name}' is {fingerprint!r:.80}; a text is expected")
        specs.append(EvaluationSpec(evaluation_set=evaluation_set.identity, split=name, fingerprint=fingerprint))
    return tuple(specs)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= 60


@dataclass(frozen=True)
class MetricRequest:
    """A metric with its label in the benchmark, and the splits that it asks for beside the test split."""

    label: str
    metric: Metric
    evaluations: MetricEvaluations


class MetricRequests:
    """The requests of a benchmark's metrics. Each data set is asked once."""

    def __init__(self, metrics: Sequence[LabeledPlugin]) -> None:
        self._metrics = metrics
        self._known: dict[int, tuple[Dataset, tuple[MetricRequest, ...]]] = {}

    def on(self, setting: Setting) -> tuple[MetricRequest, ...]:
        """Return the requests for a setting's data set. Raise `PluginError` if a metric cannot be measured on it."""
        dataset = setting.dataset
        if id(dataset) not in self._known:
            requests = [_request(labeled, dataset) for labeled in self._metrics]
            self._known[id(dataset)] = dataset, tuple(requests)
        return self._known[id(dataset)][1]


def _request(labeled: LabeledPlugin, dataset: Dataset) -> MetricRequest:
    metric: Metric = labeled.plugin
    for error in dataset_errors(metric, dataset):
        raise PluginError(f"metric '{labeled.label}': {error}")
    return MetricRequest(labeled.label, metric, metric_evaluations(metric, dataset))
