"""Rows of one or several runs as one list with one row per number. Refuses settings and values that contradict each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UserError, did_you_mean
from harness.results.rows import Row, rows_of

if TYPE_CHECKING:
    import pandas as pd

_STATUS_ORDER = ("done", "failed", "missing")

TableKey = tuple[str, str, str]
"""Benchmark, data set and architecture: the rows that share them make one table."""


class SourcedRow(NamedTuple):
    """A row and the folder of its run."""

    folder: str
    row: Row


def table_key(row: Row) -> TableKey:
    """Return the key of the table that a row belongs to."""
    return row.benchmark, row.dataset, row.architecture


def describe_table(row: Row) -> str:
    """Return what messages call the table that a row belongs to."""
    return ", ".join(table_key(row))


def describe_folders(first: str, second: str) -> str:
    """Return what messages call one folder, or two."""
    return first if first == second else f"{first} and {second}"


def sourced_rows(runs: Mapping[str, pd.DataFrame | list[Row]]) -> list[SourcedRow]:
    """Return the rows by folder, given as DataFrames or as rows, in their order."""
    found = []
    for folder, given in runs.items():
        rows = given if isinstance(given, list) else rows_of(given)
        found += [SourcedRow(folder, row) for row in rows]
    return found


def check_settings(found: Iterable[SourcedRow]) -> None:
    """Raise `UserError` if rows of one table were measured in different settings. A row without a setting fits any."""
    first: dict[TableKey, SourcedRow] = {}
    for sourced in found:
        folder, row = sourced
        if not row.setting:
            continue
        other, earlier = first.setdefault(table_key(row), sourced)
        if earlier.setting != row.setting:
            raise UserError(
                f"{describe_folders(other, folder)}: the rows of {describe_table(row)} come from two settings (data set × "
                f"architecture × recipe), {earlier.setting[:12]} and {row.setting[:12]}, which cannot stand in one table; "
                "leave one run out, run it again with the other's recipe, or give its benchmark another name"
                f"{_diff_command(earlier, row)}"
            )


def _diff_command(first: Row, second: Row) -> str:
    """Return the command that shows the difference, if the store knows both keys: those of measurements, not of cells."""
    for row in (first, second):
        if not row.key or row.key == row.cell:
            return ""
    return f"; `harness diff {first.key[:12]} {second.key[:12]}` says in what they differ"


def select_metrics(rows: Sequence[Row], metrics: str) -> list[str]:
    """Return the names of the metrics to show, in order. Raise `UserError` for a name without rows."""
    known = list(dict.fromkeys(row.metric for row in rows))
    if metrics == "all":
        return known
    if metrics == "main":
        return list(dict.fromkeys(row.metric for row in rows if row.main))
    names = list(dict.fromkeys(name.strip() for name in metrics.split(",")))
    for name in names:
        if name not in known:
            raise UserError(f"no rows of metric '{name}'{did_you_mean(name, known)}")
    return names


def merge_rows(found: Iterable[SourcedRow], shown: Collection[str]) -> list[SourcedRow]:
    """Return one row per number, in order of first appearance: a done row before a failed one before a missing one.

    Raise `UserError` if a number has two values. Details that are not shown may have two, since what a run must train depends
    on its other cells (such as the metric `new_epochs`): then the first row stays.
    """
    merged: dict[tuple, SourcedRow] = {}
    for sourced in found:
        folder, row = sourced
        twin = merged.setdefault(row.place, sourced)
        if twin is sourced:
            continue
        other, earlier = twin
        if row.main or row.metric in shown:
            _check_value(twin, sourced)
        if _STATUS_ORDER.index(row.status) < _STATUS_ORDER.index(earlier.status):
            merged[row.place] = SourcedRow(folder, _with_warning(row, earlier))
        else:
            merged[row.place] = SourcedRow(other, _with_warning(earlier, row))
    return list(merged.values())


def _check_value(first: SourcedRow, second: SourcedRow) -> None:
    row = second.row
    both_done = first.row.status == row.status == "done"
    if both_done and repr(first.row.value) != repr(row.value):  # NaN equals NaN here
        raise UserError(
            f"{describe_folders(first.folder, second.folder)}: {row.metric} of {row.method}, seed {row.seed} "
            f"({describe_table(row)}) is both {first.row.value!r} and {row.value!r}; leave one run out, or give its benchmark "
            "another name"
        )


def _with_warning(row: Row, twin: Row) -> Row:
    """Return a row with the warning of another row of the same ensemble if it has none itself: older runs wrote none."""
    if row.warning or not twin.warning or row.cell != twin.cell:
        return row
    return replace(row, warning=twin.warning)
