"""Rows of runs → paired differences from a baseline, with Holm's correction per metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.comparison.runs import ComparedRun, Contributions, Margins, merged_margins
from harness.comparison.values import MethodDifference, MetricComparison, TableComparison
from harness.errors import UserError, did_you_mean
from harness.leaderboard import Column, Table, board
from harness.leaderboard.assembly import describe_warning
from harness.leaderboard.merging import SourcedRow, merge_rows, sourced_rows, table_key
from harness.statistics import (
    PairedDifference,
    crossed_difference,
    holm,
    seed_difference,
    seeds_for_equivalence,
    seeds_needed,
)

LEVEL = 0.05

_BySeed = Mapping[int, SourcedRow]
_Entries = Mapping[tuple[str, str], _BySeed]
"""Method and metric → the done rows by seed."""


def compare_methods(
    runs: Sequence[ComparedRun], baseline: str | None = None, metrics: Sequence[str] = ()
) -> tuple[TableComparison, ...]:
    """Return the differences of all methods from a baseline, for each benchmark × data set × architecture.

    The rows of several runs are joined. Without `baseline`, it is the first method of each table; without `metrics`, they are
    the benchmarks' own that are no costs. Raise `UserError` for rows that one board cannot hold, for an unknown baseline or
    metric, and for contributions or margins that contradict each other.
    """
    frames = {run.folder: run.rows for run in runs}
    shown = board(frames, ",".join(metrics) or "main")
    _check_baseline(baseline, shown.tables)
    names = {column.metric for table in shown.tables for column in table.columns}
    by_table: dict[tuple[str, str, str], dict[tuple[str, str], dict[int, SourcedRow]]] = {}
    for sourced in merge_rows(sourced_rows(frames), names):
        row = sourced.row
        if row.status == "done":
            entries = by_table.setdefault(table_key(row), {})
            entries.setdefault((row.method, row.metric), {})[row.seed] = sourced
    contributions = Contributions(runs)
    margins = merged_margins(runs)
    compared = []
    for table in shown.tables:
        reference = baseline or table.methods[0].name
        if any(method.name == reference for method in table.methods):
            entries = by_table.get((table.benchmark, table.dataset, table.architecture), {})
            compared.append(_compare_table(table, reference, bool(metrics), entries, contributions, margins))
    return tuple(compared)


def _check_baseline(baseline: str | None, tables: Sequence[Table]) -> None:
    """Raise `UserError` for a baseline that no table has."""
    known = list(dict.fromkeys(method.name for table in tables for method in table.methods))
    if baseline is not None and baseline not in known:
        raise UserError(f"--baseline: no rows of method '{baseline}'{did_you_mean(baseline, known)}")


def _compare_table(
    table: Table, baseline: str, with_costs: bool, entries: _Entries, contributions: Contributions, margins: Margins
) -> TableComparison:
    compared = []
    notes: list[str] = []
    for column in table.columns:
        if column.unit == "epochs" and not with_costs:
            continue
        margin = margins.get((table.benchmark, column.metric))
        differences = []
        for method in table.methods:
            if method.name != baseline:
                rows = entries.get((method.name, column.metric), {})
                reference = entries.get((baseline, column.metric), {})
                differences.append(_difference(method.name, rows, reference, contributions))
                notes += _missing_seeds(table, column, method.name, baseline, rows, reference)
        compared.append(MetricComparison(column, margin, _judged(differences, margin)))
    return TableComparison(table.benchmark, table.dataset, table.architecture, baseline, tuple(compared), tuple(notes))


def _difference(method: str, rows: _BySeed, reference: _BySeed, contributions: Contributions) -> MethodDifference:
    """Return a method's difference from the baseline, not yet judged."""
    seeds = _common_seeds(rows, reference)
    own = [rows[seed] for seed in seeds]
    others = [reference[seed] for seed in seeds]
    found = dict.fromkeys(describe_warning(sourced.row) for sourced in (*own, *others))
    warnings = tuple(warning for warning in found if warning)
    return MethodDifference(method, _paired(own, others, contributions), None, None, False, None, warnings)


def _paired(rows: list[SourcedRow], reference: list[SourcedRow], contributions: Contributions) -> PairedDifference | None:
    if not rows:
        return None
    tables = contributions.tables(rows, reference)
    if tables is not None:
        return crossed_difference(tables[0] - tables[1])
    values = [(row.row.value or 0.0) - (other.row.value or 0.0) for row, other in zip(rows, reference)]
    return seed_difference(np.array(values))


def _common_seeds(rows: _BySeed, reference: _BySeed) -> list[int]:
    """Return the seeds for which both have a finite value."""
    return sorted(seed for seed in rows.keys() & reference.keys() if _is_finite(rows[seed]) and _is_finite(reference[seed]))


def _is_finite(sourced: SourcedRow) -> bool:
    return sourced.row.value is not None and math.isfinite(sourced.row.value)


def _missing_seeds(table: Table, column: Column, method: str, baseline: str, rows: _BySeed, reference: _BySeed) -> list[str]:
    """Return a note about seeds of the table that a comparison lacks."""
    common = _common_seeds(rows, reference)
    missing = [seed for seed in table.seeds if seed not in common]
    if not missing:
        return []
    noun = "seeds" if len(missing) > 1 else "seed"
    listed = ", ".join(map(str, missing))
    return [f"{column.metric}, {method}: without {noun} {listed}, for which it or {baseline} has no finite value"]


def _judged(differences: Sequence[MethodDifference], margin: float | None) -> tuple[MethodDifference, ...]:
    """Return differences with adjusted p-values, equivalence and numbers of seeds."""
    tested = [index for index, item in enumerate(differences) if _p_value(item) is not None]
    adjusted = holm([_p_value(differences[index]) or 0.0 for index in tested])
    p_values = dict(zip(tested, adjusted.tolist()))
    judged = []
    for index, item in enumerate(differences):
        judged.append(_judge(item, p_values.get(index), margin, len(tested)))
    return tuple(judged)


def _p_value(item: MethodDifference) -> float | None:
    return None if item.difference is None else item.difference.p_value


def _judge(item: MethodDifference, p_value: float | None, margin: float | None, family: int) -> MethodDifference:
    if item.difference is None:
        return item
    equivalence = None if margin is None else item.difference.equivalence(margin)
    is_different = p_value is not None and p_value < LEVEL
    is_settled = is_different or equivalence in ("yes", "no")
    more = None if is_settled else _more_seeds(item.difference, margin, family)
    return replace(item, p_value=p_value, equivalence=equivalence, is_settled=is_settled, more_seeds=more)


def _more_seeds(difference: PairedDifference, margin: float | None, family: int) -> int | None:
    """Return how many more seeds would settle a comparison, by a difference or by equivalence, whichever takes fewer.

    For the difference, the level is that of Bonferroni's correction, which is never below Holm's.
    """
    needed = [seeds_needed(difference, 1 - LEVEL / max(family, 1))]
    if margin is not None:
        needed.append(seeds_for_equivalence(difference, margin))
    found = [seeds for seeds in needed if seeds is not None]
    if not found:
        return None
    return max(min(found) - difference.seeds, 1)
