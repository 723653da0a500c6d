"""Rows, failures and members of a run, from its graph and its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harness.api.interfaces import Metric, MetricValue
from harness.api.options import changed_options
from harness.api.plugin import Plugin
from harness.api.task import canonical_json
from harness.benchmark import LabeledPlugin
from harness.execution.run_state import RunState
from harness.plan.graph import Graph, PlannedCell
from harness.results.ensemble_warnings import planned_warnings
from harness.results.rows import Row

_EPOCHS = ("training_epochs", "new_epochs")
_EPOCH_TITLES = {"training_epochs": "Training", "new_epochs": "New training"}


@dataclass(frozen=True)
class _MetricResult:
    """The result of a metric for a cell: values, or the message of a failure, or neither if it is missing.

    `label` is the one in the benchmark. `key` is the key of the measurement. `cause` is the key under which the store keeps
    the traceback of a failure.
    """

    label: str
    metric: Metric
    key: str = ""
    values: tuple[MetricValue, ...] = ()
    message: str = ""
    cause: str = ""


def rows(graph: Graph, state: RunState) -> list[Row]:
    """Return all rows of a benchmark in the order of its cells and metrics: measured, failed and missing ones."""
    found: list[Row] = []
    for cell in graph.cells:
        make_row = _row_maker(cell, graph.benchmark.name, state)
        for result in _results(cell, graph, state):
            found += _metric_rows(result, make_row)
        found += _cost_rows(cell, make_row)
    return found


def _row_maker(cell: PlannedCell, benchmark: str, state: RunState) -> partial[Row]:
    """Return `Row` with the fields that all rows of a cell have in common."""
    method = cell.spec.method.plugin
    return partial(
        Row,
        **place(cell),
        benchmark=benchmark,
        members=len(cell.members) or cell.spec.members,
        options=canonical_json(method.identity["options"]),
        setting=cell.setting.key,
        cell=cell.key,
        method_version=f"{method.name}@{method.version}{_chosen_versions(method)}",
        objective=_version(cell.spec.objective),
        warning="; ".join(_warnings(cell, state)),
    )


def _metric_rows(result: _MetricResult, make_row: partial[Row]) -> list[Row]:
    """Return one row per value of a metric, or one row that says why there is none."""
    version = _version(result.metric)
    if not result.values:
        status = "failed" if result.message else "missing"
        message = result.message or "not computed yet"
        return [make_row(metric=result.label, value=None, status=status, message=message, metric_version=version)]
    title, symbol = _captions(result)
    found = []
    for position, value in enumerate(result.values):
        found.append(
            make_row(
                metric=value.metric,
                value=value.value,
                standard_error=value.standard_error,
                unit=value.unit,
                better=value.better,
                main=position == 0,
                metric_version=version,
                key=result.key,
                title=title if position == 0 else "",
                symbol=symbol if position == 0 else "",
            )
        )
    return found


def _captions(result: _MetricResult) -> tuple[str, str]:
    """Return the title and the symbol of a metric's column: the label, if it has one, since a metric's entries share both."""
    if result.label != result.metric.name:
        return result.label, result.label
    return result.metric.title, result.metric.symbol


def _cost_rows(cell: PlannedCell, make_row: partial[Row]) -> list[Row]:
    """Return the rows of the ensemble's cost alone, and of its new cost after the cells before it.

    The latter is no main value, since it depends on the order of the methods.
    """
    found = []
    for metric, epochs in zip(_EPOCHS, (cell.epochs_alone, cell.epochs_new), strict=True):
        make = partial(
            make_row,
            metric=metric,
            unit="epochs",
            main=metric != "new_epochs",
            metric_version=f"{metric}@1",
            title=_EPOCH_TITLES[metric],
            symbol=_EPOCH_TITLES[metric],
        )
        if cell.problem:
            found.append(make(value=None, status="failed", message=cell.problem))
        else:
            found.append(make(value=epochs, key=cell.key))
    return found


def _warnings(cell: PlannedCell, state: RunState) -> Sequence[str]:
    """Return warnings about a degenerate ensemble: measured ones or, before any measurement, those that follow from keys."""
    found: Sequence[str] = planned_warnings([member.key for member in cell.members])
    for measure in cell.measures.values():
        measured = state.measured.get(measure.key)
        if measured is not None and measured.warnings:
            found = measured.warnings
    return found


def _version(plugin: Plugin) -> str:
    """Return a plugin's name and version, the options that are not at their defaults, and the versions of chosen plugins."""
    version = f"{plugin.name}@{plugin.version}"
    changed = changed_options(plugin.options)
    if changed:
        version += canonical_json(changed)
    return version + _chosen_versions(plugin)


def _chosen_versions(plugin: Plugin) -> str:
    """Return the names and versions of the plugins that a plugin's options name, such as `+repair@1`."""
    return "".join(f"+{chosen.name}@{chosen.version}" for chosen in plugin.chosen.values())


def _results(cell: PlannedCell, graph: Graph, state: RunState) -> Iterator[_MetricResult]:
    """Yield the result of each metric for a cell."""
    owners: dict[str, str] = dict.fromkeys(_EPOCHS, "the harness")
    for labeled in graph.benchmark.metrics:
        owners[labeled.label] = f"metric '{labeled.label}'"
    for labeled in graph.benchmark.metrics:
        metric: Metric = labeled.plugin
        if cell.problem:
            yield _MetricResult(labeled.label, metric, message=cell.problem, cause=cell.key)
        else:
            yield _result(labeled, cell.measures[labeled.label].key, owners, graph, state)


def _result(labeled: LabeledPlugin, key: str, owners: dict[str, str], graph: Graph, state: RunState) -> _MetricResult:
    label, metric = labeled.label, labeled.plugin
    measured = state.measured.get(key)
    if measured is None:
        failed = graph.failed_ancestor([key], state.failures)
        if not failed:
            return _MetricResult(label, metric, key)
        return _MetricResult(label, metric, key, message=state.failures[failed], cause=state.causes.get(failed, failed))
    values = tuple(replace(value, metric=labeled_name(value.metric, metric.name, label)) for value in measured.values)
    clash = _name_clash(label, values, owners)
    if clash:
        return _MetricResult(label, metric, key, message=clash, cause=key)
    return _MetricResult(label, metric, key, values)


def labeled_name(name: str, metric: str, label: str) -> str:
    """Return the name in rows of a metric's value, given the metric's label: `q_repair_worst_draw` for the label `q_repair`.

    The label takes the place of the metric's name. It goes before a name that does not begin with the metric's.
    """
    if label == metric:
        return name
    if name.startswith(metric):
        return label + name.removeprefix(metric)
    return f"{label}_{name}"


def _name_clash(metric: str, values: Sequence[MetricValue], owners: dict[str, str]) -> str:
    """Return a message if one of a metric's values has a name that another metric owns, else "".

    `owners` are the owners by name. Names that are free become the metric's.
    """
    for value in values:
        owner = owners.setdefault(value.metric, f"metric '{metric}'")
        if owner != f"metric '{metric}'":
            return f"metric '{metric}' gives a value named '{value.metric}', as {owner} does; rename it"
    return ""


def failures(graph: Graph, state: RunState) -> list[dict[str, Any]]:
    """Return the failed cells as JSON, each reason once per cell.

    `metrics` are the metrics without a value for that reason. The store keeps the traceback, if any, under `key`.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for number, cell in enumerate(graph.cells):
        for result in _results(cell, graph, state):
            if result.message:
                facts = {**place(cell), "message": result.message, "key": result.cause, "metrics": []}
                found.setdefault((number, result.cause), facts)["metrics"].append(result.label)
    return list(found.values())


def members(graph: Graph) -> list[dict[str, Any]]:
    """Return the location of each member's weights in the store, as JSON: the key of the object and the part."""
    found = []
    for cell in graph.cells:
        for index, member in enumerate(cell.members):
            found.append({**place(cell), "member": index, "key": member.key, **member.location.to_json()})
    return found


def place(cell: PlannedCell) -> dict[str, Any]:
    """Return a cell's coordinates, as rows and `run.json` name them."""
    spec = cell.spec
    return {
        "dataset": spec.dataset.label,
        "architecture": spec.architecture.label,
        "method": spec.method.label,
        "seed": spec.seed,
    }
