"""Rows in groups that differ in nothing but seed, value and keys: a board of many rows has few groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.leaderboard.merging import SourcedRow, merge_rows, sourced_rows
from harness.results.rows import COLUMNS, Row, rows_of

if TYPE_CHECKING:
    import pandas as pd

_SHARED = [name for name in COLUMNS if name not in ("seed", "value", "standard_error", "cell", "key")]
_shared_values: Callable[[Row], tuple[Any, ...]] = attrgetter(*_SHARED)


class RowGroup(NamedTuple):
    """Rows of one run that share all columns but seed, value, standard error and keys. Their values are all NaN, or none is.

    `row` is the first of them. `seeds` and `values` have one element per row, in their order; rows without a value have NaN.
    """

    folder: str
    row: Row
    seeds: np.ndarray
    values: np.ndarray


def row_groups(runs: Mapping[str, pd.DataFrame | list[Row]]) -> list[RowGroup]:
    """Return the groups of runs by folder, in the order of their first rows."""
    groups: list[RowGroup] = []
    for folder, given in runs.items():
        if isinstance(given, list):
            groups += groups_of_rows([SourcedRow(folder, row) for row in given])
        elif len(given):
            groups += _groups_of_frame(folder, given)
    return groups


def merged_groups(
    groups: Sequence[RowGroup], runs: Mapping[str, pd.DataFrame | list[Row]], shown: Sequence[str]
) -> Sequence[RowGroup]:
    """Return groups with one row per number. See `merge_rows`, which is needed only if a number has several rows."""
    if not _has_duplicates(groups):
        return groups
    return groups_of_rows(merge_rows(sourced_rows(runs), shown))


def groups_of_rows(found: Iterable[SourcedRow]) -> list[RowGroup]:
    """Return the groups of rows, in the order of their first rows."""
    by_group: dict[tuple[Any, ...], list[Row]] = {}
    for folder, row in found:
        is_nan = row.value is None or row.value != row.value
        by_group.setdefault((folder, is_nan, _shared_values(row)), []).append(row)
    groups = []
    for (folder, _, _), rows in by_group.items():
        seeds = np.array([row.seed for row in rows], dtype=np.int64)
        values = np.array([np.nan if row.value is None else row.value for row in rows], dtype=np.float64)
        groups.append(RowGroup(folder, rows[0], seeds, values))
    return groups


def _groups_of_frame(folder: str, frame: pd.DataFrame) -> list[RowGroup]:
    values = frame["value"].to_numpy(dtype=np.float64)
    seeds = frame["seed"].to_numpy(dtype=np.int64)
    numbers, count = np.isnan(values).astype(np.int64), 2
    for name in _SHARED:
        codes, number = _codes(frame[name])
        if number > 1:
            numbers, count = _combined(numbers, count, codes, number)
    _, first, group_of = np.unique(numbers, return_index=True, return_inverse=True)
    lines = np.argsort(group_of, kind="stable")
    ends = np.cumsum(np.bincount(group_of))
    rows = rows_of(frame.iloc[first])
    groups = []
    for index in np.argsort(first):
        start = ends[index - 1] if index else 0
        own = lines[start : ends[index]]
        groups.append(RowGroup(folder, rows[index], seeds[own], values[own]))
    return groups


def _codes(column: pd.Series) -> tuple[np.ndarray, int]:
    """Return a number per line, equal for equal values, and how many numbers there may be."""
    import pandas as pd

    codes, values = pd.factorize(column)
    return codes, len(values)


def _combined(numbers: np.ndarray, count: int, codes: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """Return a number per line, equal for lines whose numbers and codes are equal, and how many there may be."""
    if count * more >= 2**62:
        distinct, numbers = np.unique(numbers, return_inverse=True)
        count = len(distinct)
    return numbers * more + codes, count * more


def _has_duplicates(groups: Iterable[RowGroup]) -> bool:
    """Return whether a number (benchmark, data set, architecture, method, seed, metric) has several rows."""
    by_number: dict[tuple[str, ...], list[np.ndarray]] = {}
    for group in groups:
        row = group.row
        by_number.setdefault((row.benchmark, row.dataset, row.architecture, row.method, row.metric), []).append(group.seeds)
    for several in by_number.values():
        seeds = np.concatenate(several)
        if len(np.unique(seeds)) < len(seeds):
            return True
    return False
