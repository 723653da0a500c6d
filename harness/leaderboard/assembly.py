"""Rows → a board: entries averaged over seeds, groups that cannot be told apart, and the reasons for missing numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import UserError
from harness.leaderboard.averages import mean_and_std
from harness.leaderboard.groups import mark_groups
from harness.leaderboard.merging import (
    SourcedRow,
    TableKey,
    check_settings,
    describe_folders,
    describe_table,
    select_metrics,
    table_key,
)
from harness.leaderboard.row_groups import RowGroup, merged_groups, row_groups
from harness.leaderboard.tables import Board, Column, Entry, Method, Problem, Table
from harness.results.ensemble_warnings import ONE_MEMBER
from harness.results.rows import Row

if TYPE_CHECKING:
    import pandas as pd

_GroupsByEntry = Mapping[tuple[str, str], Sequence[RowGroup]]
"""Method and metric → the groups of rows."""


def board(frames: Mapping[str, pd.DataFrame | list[Row]], metrics: str = "main", *, letters: bool = False) -> Board:
    """Return the board of one or several runs, each a DataFrame of rows, or a list of them, under the name of its folder.

    `metrics` is "main" (the benchmark's own, without details such as pairs), "all", or names separated by commas. Tables,
    methods and metrics keep the order of the rows. A row that several runs have counts once: a done one before a failed one
    before a missing one. From six seeds on, the entries that cannot be told apart from the best of their column are marked,
    and all groups get letters if `letters` is true. Raise `UserError` for rows that one table cannot hold: two settings, two
    values of one number, or a metric or method that differs between its rows.
    """
    every = row_groups(frames)
    check_settings(_first_rows(every))
    shown = select_metrics([group.row for group in every], metrics)
    by_table: dict[TableKey, list[RowGroup]] = {}
    for group in merged_groups(every, frames, shown):
        by_table.setdefault(table_key(group.row), []).append(group)
    tables = [_table(key, found, shown, letters) for key, found in by_table.items()]
    return Board(tuple(table for table in tables if table.columns))


def _first_rows(groups: Sequence[RowGroup]) -> list[SourcedRow]:
    """Return one row per group. What differs between rows differs between these, and does so first."""
    return [SourcedRow(group.folder, group.row) for group in groups]


def _table(key: TableKey, found: Sequence[RowGroup], shown: Sequence[str], letters: bool) -> Table:
    """Return the table of the rows that share benchmark, data set and architecture."""
    _check_consistency(_first_rows(found))
    seeds = tuple(np.unique(np.concatenate([group.seeds for group in found])).tolist())
    by_entry: dict[tuple[str, str], list[RowGroup]] = {}
    by_method: dict[str, list[Row]] = {}
    by_metric: dict[str, list[Row]] = {}
    for group in found:
        row = group.row
        by_entry.setdefault((row.method, row.metric), []).append(group)
        by_method.setdefault(row.method, []).append(row)
        by_metric.setdefault(row.metric, []).append(row)
    methods = tuple(_method(name, own) for name, own in by_method.items())
    columns = tuple(_column(metric, by_metric[metric]) for metric in shown if metric in by_metric)
    by_column = []
    for column in columns:
        entries = []
        values = []
        for method in methods:
            groups = by_entry.get((method.name, column.metric), [])
            measured = _values(groups)
            entries.append(_entry(method.name, column.metric, groups, measured, len(seeds)))
            values.append(measured)
        by_column.append(mark_groups(entries, values, column, letters))
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for method in methods:
        problems += _collect(method.name, columns, by_entry, seeds, _describe_problem)
        warnings += _collect(method.name, columns, by_entry, seeds, describe_warning)
    lines = tuple(zip(*by_column))
    return Table(*key, seeds, methods, columns, lines, tuple(problems), warnings=tuple(warnings))


def _check_consistency(found: Sequence[SourcedRow]) -> None:
    """Raise `UserError` if a metric, a method or the objective differs between the rows of one table."""
    done = [sourced for sourced in found if sourced.row.status == "done"]
    for attribute in ("metric_version", "unit", "better"):
        _check_single(done, "metric", attribute, "measure all of them with one version of the metric")
    for attribute in ("options", "members", "method_version"):
        _check_single(found, "method", attribute, "give variants of a method names of their own in the benchmark")
    _check_single(found, "benchmark", "objective", "give one of the benchmarks another name")


def _check_single(
    found: Sequence[SourcedRow], subject: Literal["metric", "method", "benchmark"], attribute: str, remedy: str
) -> None:
    """Raise `UserError` if an attribute differs between the rows of one subject. An empty attribute fits any."""
    first: dict[str, SourcedRow] = {}
    seen: set[tuple[str, object]] = set()
    name_and_value = attrgetter(subject, attribute)
    for sourced in found:
        pair = name_and_value(sourced.row)
        if pair in seen:
            continue
        seen.add(pair)
        name, value = pair
        if not value:
            continue
        folder, row = sourced
        other, earlier = first.setdefault(name, sourced)
        earlier_value = getattr(earlier, attribute)
        if earlier_value != value:
            raise UserError(
                f"{describe_folders(other, folder)}: {subject} '{name}' ({describe_table(row)}) has {attribute} "
                f"{earlier_value} and {value}, which cannot stand in one table; {remedy}, or make a board of each"
            )


def _method(name: str, own: Sequence[Row]) -> Method:
    # The rows were checked: `max` gives the only value that is not empty.
    return Method(name, max(row.members for row in own), max(row.options for row in own))


def _column(metric: str, own: Sequence[Row]) -> Column:
    done = [row for row in own if row.status == "done"] or own
    better = max((row.better for row in done), key=len)
    unit, version = max(row.unit for row in done), max(row.metric_version for row in done)
    title, symbol = max(row.title for row in own), max(row.symbol for row in own)
    return Column(metric, unit, better, version, title, symbol)


def _entry(method: str, metric: str, groups: Sequence[RowGroup], values: Sequence[float], expected: int) -> Entry:
    """Return a metric of a method over `expected` seeds."""
    if not values:
        status_without_value = _worst({group.row.status for group in groups})
        return Entry(method, metric, None, None, 0, expected, status_without_value)
    mean, std = mean_and_std(values)
    status: Literal["done", "incomplete", "nan"] = "done" if len(values) == expected else "incomplete"
    if math.isnan(mean):
        status = "nan"
    return Entry(method, metric, mean, std, len(values), expected, status, warnings=_warnings(groups))


def _values(groups: Sequence[RowGroup]) -> list[float]:
    """Return the values of an entry's done rows, in the order of the seeds."""
    done = [group for group in groups if group.row.status == "done"]
    if not done:
        return []
    order = np.argsort(np.concatenate([group.seeds for group in done]))
    values: list[float] = np.concatenate([group.values for group in done])[order].tolist()
    return values


def _warnings(groups: Sequence[RowGroup]) -> tuple[str, ...]:
    """Return the warnings of an entry's rows, each once, in the order of the seeds."""
    in_order = sorted(groups, key=lambda group: int(group.seeds.min()))
    found = dict.fromkeys(describe_warning(group.row) for group in in_order)
    return tuple(warning for warning in found if warning)


def _worst(statuses: Collection[str]) -> Literal["failed", "missing", "absent"]:
    if "failed" in statuses:
        return "failed"
    return "missing" if statuses else "absent"


def _collect(
    method: str,
    columns: Sequence[Column],
    by_entry: _GroupsByEntry,
    seeds: Sequence[int],
    describe: Callable[[Row | None], str],
) -> list[Problem]:
    """Return the messages of `describe` about a method's rows. Metrics and seeds with the same message share a problem."""
    measured = tuple(column.metric for column in columns if (method, column.metric) in by_entry)
    metrics_by_message: dict[int, dict[str, list[str]]] = {}  # by seed
    for metric in measured:
        for seed, message in _messages(by_entry[method, metric], seeds, describe):
            metrics_by_message.setdefault(seed, {}).setdefault(message, []).append(metric)
    seeds_by_message: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for seed in sorted(metrics_by_message):
        for message, metrics in metrics_by_message[seed].items():
            seeds_by_message.setdefault((tuple(metrics), message), []).append(seed)
    problems = []
    for (affected, message), affected_seeds in seeds_by_message.items():
        named = () if affected == measured else affected
        problems.append(Problem(method, tuple(affected_seeds), named, message))
    return problems


def _messages(
    groups: Sequence[RowGroup], seeds: Sequence[int], describe: Callable[[Row | None], str]
) -> Iterator[tuple[int, str]]:
    """Yield a seed and its message for each row of an entry that has one, and for each seed without a row."""
    for group in groups:
        message = describe(group.row)
        if message:
            for seed in group.seeds.tolist():
                yield seed, message
    absent = describe(None)
    if absent and sum(len(group.seeds) for group in groups) < len(seeds):
        known = np.concatenate([group.seeds for group in groups])
        for seed in np.setdiff1d(seeds, known).tolist():
            yield seed, absent


def _describe_problem(row: Row | None) -> str:
    """Return why a number is missing or NaN; nothing for a plain number."""
    if row is None:
        return "no row"
    if row.status == "failed":
        return f"failed: {row.message or 'no reason recorded'}"
    if row.status == "missing":
        return "not computed yet"
    if row.value is not None and math.isnan(row.value):
        return "the value is nan"
    return ""


def describe_warning(row: Row | None) -> str:
    """Return why the ensemble of a done row is degenerate; nothing for a sound one.

    Rows of older runs hold no warning, but the number of members.
    """
    if row is None or row.status != "done":
        return ""
    if row.warning:
        return row.warning
    if row.members == 1:
        return ONE_MEMBER
    return ""
