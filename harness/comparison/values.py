"""Comparisons of methods with a baseline as values. Computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from harness.leaderboard import Column
from harness.statistics import Equivalence, PairedDifference


@dataclass(frozen=True)
class MethodDifference:
    """A method minus the baseline in one metric.

    `difference` is None without a common seed. `p_value` is adjusted by Holm's correction over the methods of the comparison;
    None for a single seed. `equivalence` is None without a margin. `is_settled` says whether the methods differ (p below 5 %)
    or the equivalence is a yes or a no. Otherwise, `more_seeds` is how many more seeds would probably settle it; None if no
    number of seeds would, or if one seed cannot tell. `warnings` say why ensembles of one of the two are degenerate.
    """

    method: str
    difference: PairedDifference | None
    p_value: float | None
    equivalence: Equivalence | None
    is_settled: bool
    more_seeds: int | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricComparison:
    """The differences of all other methods from the baseline in one metric. `margin` is that of equivalence, None: none."""

    column: Column
    margin: float | None
    differences: tuple[MethodDifference, ...]


@dataclass(frozen=True)
class TableComparison:
    """The comparisons with a baseline on one benchmark, data set and architecture. `notes` say which seeds are left out."""

    benchmark: str
    dataset: str
    architecture: str
    baseline: str
    metrics: tuple[MetricComparison, ...]
    notes: tuple[str, ...] = ()
