"""Rows → a board: entries averaged over seeds, groups that cannot be told apart, and the reasons for missing numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from harness.errors import UserError
from harness.leaderboard.groups import mark_groups
from harness.leaderboard.merging import (
    SourcedRow,
    TableKey,
    check_settings,
    describe_folders,
    describe_table,
    merge_rows,
    select_metrics,
    sourced_rows,
    table_key,
)
from harness.leaderboard.tables import Board, Column, Entry, Method, Problem, Table
from harness.results.ensemble_warnings import ONE_MEMBER
from harness.results.rows import Row

if TYPE_CHECKING:
    import pandas as pd

_RowsByEntry = Mapping[tuple[str, str], Mapping[int, Row]]
"""Method and metric → the rows by seed."""


def board(frames: Mapping[str, pd.DataFrame | list[Row]], metrics: str = "main", *, letters: bool = False) -> Board:
    """Return the board of one or several runs, each a DataFrame of rows, or a list of them, under the name of its folder.

    `metrics` is "main" (the benchmark's own, without details such as pairs), "all", or names separated by commas. Tables,
    methods and metrics keep the order of the rows. A row that several runs have counts once: a done one before a failed one
    before a missing one. From six seeds on, the entries that cannot be told apart from the best of their column are marked,
    and all groups get letters if `letters` is true. Raise `UserError` for rows that one table cannot hold: two settings, two
    values of one number, or a metric or method that differs between its rows.
    """
    every = sourced_rows(frames)
    check_settings(every)
    shown = select_metrics([row for _, row in every], metrics)
    by_table: dict[TableKey, list[SourcedRow]] = {}
    for sourced in merge_rows(every, shown):
        by_table.setdefault(table_key(sourced.row), []).append(sourced)
    tables = [_table(key, found, shown, letters) for key, found in by_table.items()]
    return Board(tuple(table for table in tables if table.columns))


def _table(key: TableKey, found: Sequence[SourcedRow], shown: Sequence[str], letters: bool) -> Table:
    """Return the table of the rows that share benchmark, data set and architecture."""
    _check_consistency(found)
    rows = [row for _, row in found]
    seeds = tuple(sorted({row.seed for row in rows}))
    by_entry: dict[tuple[str, str], dict[int, Row]] = {}
    by_method: dict[str, list[Row]] = {}
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_entry.setdefault((row.method, row.metric), {})[row.seed] = row
        by_method.setdefault(row.method, []).append(row)
        by_metric.setdefault(row.metric, []).append(row)
    methods = tuple(_method(name, own) for name, own in by_method.items())
    columns = tuple(_column(metric, by_metric[metric]) for metric in shown if metric in by_metric)
    by_column = []
    for column in columns:
        entries = []
        values = []
        for method in methods:
            by_seed = by_entry.get((method.name, column.metric), {})
            entries.append(_entry(method.name, column.metric, by_seed, len(seeds)))
            values.append(_values(by_seed))
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


def _entry(method: str, metric: str, by_seed: Mapping[int, Row], expected: int) -> Entry:
    """Return a metric of a method over `expected` seeds."""
    values = _values(by_seed)
    if not values:
        status_without_value = _worst({row.status for row in by_seed.values()})
        return Entry(method, metric, None, None, 0, expected, status_without_value)
    mean, std = mean_and_std(values)
    status: Literal["done", "incomplete", "nan"] = "done" if len(values) == expected else "incomplete"
    if math.isnan(mean):
        status = "nan"
    return Entry(method, metric, mean, std, len(values), expected, status, warnings=_warnings(by_seed))


def _values(by_seed: Mapping[int, Row]) -> list[float]:
    """Return the values of an entry's done rows, in the order of the seeds."""
    values = []
    for seed in sorted(by_seed):
        value = by_seed[seed].value
        if value is not None:
            values.append(value)
    return values


def _warnings(by_seed: Mapping[int, Row]) -> tuple[str, ...]:
    """Return the warnings of an entry's rows, each once, in the order of the seeds."""
    found = dict.fromkeys(describe_warning(by_seed[seed]) for seed in sorted(by_seed))
    return tuple(warning for warning in found if warning)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (ddof = 1) of at least one value.

    The standard deviation is None for one value and for values that are not all finite.
    """
    mean = statistics.mean(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return mean, None
    try:
        return mean, statistics.stdev(values)
    except OverflowError:
        return mean, math.inf


def _worst(statuses: Collection[str]) -> Literal["failed", "missing", "absent"]:
    if "failed" in statuses:
        return "failed"
    return "missing" if statuses else "absent"


def _collect(
    method: str,
    columns: Sequence[Column],
    by_entry: _RowsByEntry,
    seeds: Sequence[int],
    describe: Callable[[Row | None], str],
) -> list[Problem]:
    """Return the messages of `describe` about a method's rows. Metrics and seeds with the same message share a problem."""
    measured = tuple(column.metric for column in columns if (method, column.metric) in by_entry)
    seeds_by_message: dict[tuple[tuple[str, ...], str], list[int]] = {}
    for seed in seeds:
        metrics_by_message: dict[str, list[str]] = {}
        for metric in measured:
            message = describe(by_entry[method, metric].get(seed))
            if message:
                metrics_by_message.setdefault(message, []).append(metric)
        for message, metrics in metrics_by_message.items():
            seeds_by_message.setdefault((tuple(metrics), message), []).append(seed)
    problems = []
    for (affected, message), affected_seeds in seeds_by_message.items():
        named = () if affected == measured else affected
        problems.append(Problem(method, tuple(affected_seeds), named, message))
    return problems


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
