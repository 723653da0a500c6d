"""Measured values → rows, failures and members of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from harness.api.interfaces import Metric
from harness.api.options import changed_options
from harness.api.plugin import Plugin
from harness.api.task import canonical_json
from harness.execution.run_state import RunState
from harness.plan.graph import Graph, PlannedCell
from harness.results.ensemble_warnings import planned_warnings
from harness.results.rows import Better, Row

_EPOCHS = ("training_epochs", "new_epochs")


def rows(graph: Graph, state: RunState) -> list[Row]:
    """Return all rows of a benchmark in its order: measured, failed and missing ones."""
    out: list[Row] = []
    for cell in graph.cells:
        out += _cell_rows(cell, graph, state)
    return out


def _cell_rows(cell: PlannedCell, graph: Graph, state: RunState) -> list[Row]:
    options = canonical_json(cell.spec.method.plugin.identity["options"])
    where = {
        **place(cell),
        "benchmark": graph.benchmark.name,
        "members": len(cell.members) or cell.spec.members,
        "options": options,
        "setting": cell.setting.key,
        "cell": cell.key,
        "method_version": f"{cell.spec.method.plugin.name}@{cell.spec.method.plugin.version}",
        "objective": _version(cell.spec.objective),
        "warning": "; ".join(_cell_warnings(cell, state)),
    }
    out: list[Row] = []
    for found in _measured(cell, graph, state):
        name, version = found.metric.name, _version(found.metric)
        if found.values:
            out += [_row(where, v, found.key, version, main=i == 0) for i, v in enumerate(found.values)]
            continue
        status: Any = "failed" if found.message else "missing"
        message = found.message or "not computed yet"
        out.append(Row(**where, metric=name, value=None, status=status, message=message, metric_version=version))
    for metric, value in zip(_EPOCHS, (cell.epochs_alone, cell.epochs_new), strict=True):
        main, version = metric != "new_epochs", f"{metric}@1"  # what is new depends on the methods listed before: a detail
        row = partial(Row, **where, metric=metric, unit="epochs", main=main, metric_version=version)
        out.append(row(value=None, status="failed", message=cell.problem) if cell.problem else row(value=value, key=cell.key))
    return out


def _cell_warnings(cell: PlannedCell, state: RunState) -> tuple[str, ...]:
    """Return why a cell's ensemble is degenerate: as its measurements found or, before any, as its members' keys say."""
    found = planned_warnings([member.key for member in cell.members])
    for measure in cell.measures.values():
        found = state.warnings.get(measure.key, ()) or found
    return found


def _version(plugin: Plugin) -> str:
    """Return a plugin's name and version, and those of its options that are not as they are by default."""
    changed = changed_options(plugin.options)
    return f"{plugin.name}@{plugin.version}{canonical_json(changed) if changed else ''}"


@dataclass(frozen=True)
class _Measured:
    """How a metric of a cell came out: its values, or why it failed and under which key the store keeps more of that, or
    neither."""

    metric: Metric
    key: str = ""
    values: tuple[dict[str, Any], ...] = ()
    message: str = ""
    cause: str = ""


def _measured(cell: PlannedCell, graph: Graph, state: RunState) -> Iterator[_Measured]:
    names = (named.plugin.name for named in graph.benchmark.metrics)
    taken = {name: f"metric '{name}'" for name in names} | dict.fromkeys(_EPOCHS, "the harness")
    for named in graph.benchmark.metrics:
        metric: Metric = named.plugin
        if cell.problem:
            yield _Measured(metric, message=cell.problem, cause=cell.key)
            continue
        key = cell.measures[named.label].key
        values = state.values.get(key, [])
        clash = _clash(metric.name, values, taken)
        cause = "" if values else state.failed([key], graph)
        if clash or cause:
            message = clash or state.failures[cause]
            yield _Measured(metric, key, message=message, cause=state.causes.get(cause, cause) or key)
        else:
            yield _Measured(metric, key, tuple(values))


def _clash(metric: str, values: list[dict[str, Any]], taken: dict[str, str]) -> str:
    """Say which of a metric's values has a name that another's has, or nothing: then the names are this metric's."""
    for name in (value["metric"] for value in values):
        other = taken.setdefault(name, f"metric '{metric}'")
        if other != f"metric '{metric}'":
            return f"metric '{metric}' gives a value named '{name}', as {other} does; rename it"
    return ""


def values_of(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of a measurement as rows will hold them; raise `ValueError` (or its like) if they cannot."""
    values: list[dict[str, Any]] = meta["values"]
    if not values:
        raise ValueError
    for value in values:
        float(value["value"]), float(value["standard_error"] or 0)
        if (
            not isinstance(value["metric"], str)
            or not isinstance(value["unit"], str)
            or value["better"] not in get_args(Better)
        ):
            raise ValueError
    return values


def warnings_of(meta: dict[str, Any]) -> tuple[str, ...]:
    """Return what a measurement warns of (older ones say nothing); raise `TypeError` if that is no list of texts."""
    warnings = meta.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(warning, str) for warning in warnings):
        raise TypeError
    return tuple(warnings)


def _row(where: dict[str, Any], value: dict[str, Any], key: str, version: str, main: bool) -> Row:
    error = value["standard_error"]
    return Row(
        **where,
        metric=value["metric"],
        value=float(value["value"]),
        standard_error=None if error is None else float(error),
        unit=value["unit"],
        better=value["better"],
        main=main,
        metric_version=version,
        key=key,
    )


def failures(graph: Graph, state: RunState) -> list[dict[str, Any]]:
    """Return the cells that failed, each reason once: with the metrics that lack a value for it, and `key`, under which the
    store keeps the traceback if there is one."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for number, cell in enumerate(graph.cells):
        for measured in _measured(cell, graph, state):
            if measured.message:
                facts = {**place(cell), "message": measured.message, "key": measured.cause, "metrics": []}
                found.setdefault((number, measured.cause), facts)["metrics"].append(measured.metric.name)
    return list(found.values())


def members(graph: Graph) -> list[dict[str, Any]]:
    """Return where each member's weights lie in the store: the object's key and the part of it."""
    return [
        {**place(cell), "member": j, "key": member.key, **member.location}
        for cell in graph.cells
        for j, member in enumerate(cell.members)
    ]


def place(cell: PlannedCell) -> dict[str, Any]:
    """Return a cell's coordinates."""
    spec = cell.spec
    return {
        "dataset": spec.dataset.label,
        "architecture": spec.architecture.label,
        "method": spec.method.label,
        "seed": spec.seed,
    }
