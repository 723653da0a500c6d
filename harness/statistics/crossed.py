"""The mean of a table whose rows and columns are both random samples, and its standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from harness.statistics import student


def standard_error(sample: np.ndarray) -> float | None:
    """Return the standard error of the mean of independent values (n,): √(s² / n), s² with n − 1; None for n = 1.

    For values 0 and 1 it is the binomial √(p (1 − p) / (n − 1)).
    """
    if len(sample) < 2:
        return None
    return float(sample.std(ddof=1)) / math.sqrt(len(sample))


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of a table (R rows, C columns), each divided by R C: the parts of the variance of the table's mean."""

    rows: float
    columns: float
    rest: float

    def combined(self, freedom: tuple[int, int]) -> tuple[float, float]:
        """Return the variance of the mean and Satterthwaite's degrees of freedom (1946); `freedom` is (R − 1, C − 1).

        The variance is `rows + columns − rest`, raised to the larger of `rows` and `columns` if it is below it.
        """
        total = max(self.rows + self.columns - self.rest, self.rows, self.columns)
        spread = self.rows**2 / freedom[0] + self.columns**2 / freedom[1] + self.rest**2 / (freedom[0] * freedom[1])
        least = float(min(freedom))
        degrees = least
        if spread > 0:
            degrees = max(total**2 / spread, least)
        return total, degrees


@dataclass(frozen=True)
class CrossedMean:
    """The mean of a table d (rows, columns) whose rows and columns are random samples, and its standard errors.

    Every function of a random row and a random column is d_rc = μ + a_r + b_c + e_rc with uncorrelated effects of variances
    σ_a², σ_b² and σ_e². The mean over R rows and C columns has

        Var = σ_a² / R + σ_b² / C + σ_e² / (R C).

    The mean squares of the two-way analysis of variance, MS_rows = C Σ_r (d_r· − d··)² / (R − 1), MS_columns likewise, and
    MS_rest = Σ_rc (d_rc − d_r· − d_·c + d··)² / ((R − 1)(C − 1)), have expectations C σ_a² + σ_e², R σ_b² + σ_e² and σ_e². So

        se_rows²    = MS_rows / (R C)       estimates σ_a² / R + σ_e² / (R C), the variance over other rows,
        se_columns² = MS_columns / (R C)    estimates σ_b² / C + σ_e² / (R C), the variance over other columns,
        se²         = se_rows² + se_columns² − MS_rest / (R C)

    is an unbiased estimate of Var: e is in both parts and is counted once. Var is at least as large as either part, so an
    estimate below the larger part (MS_rest is too large by chance) is raised to it. Standard errors that a single row or column
    cannot give are None.

    Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 4; Owen, The pigeonhole bootstrap (2007).
    """

    mean: float
    rows: np.ndarray  # (rows,), the mean of each row
    columns: np.ndarray  # (columns,), the mean of each column
    se_rows: float | None
    se_columns: float | None
    se: float | None
    degrees: float | None  # Satterthwaite's degrees of freedom of se²
    squares: MeanSquares | None  # what se² is computed from

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the confidence interval mean ± t · se, t from Student's distribution with `degrees`; None if `se` is None."""
        if self.se is None or self.degrees is None:
            return None
        half_width = student.quantile(self.degrees, 0.5 + level / 2) * self.se
        return self.mean - half_width, self.mean + half_width


def crossed_mean(blocks: Iterable[np.ndarray]) -> CrossedMean:
    """Return the mean of a table, given as one or more blocks of complete rows, float64 (rows of the block, columns)."""
    means = []
    column_sums = np.zeros(())
    squares = 0.0
    for block in blocks:
        means.append(block.mean(axis=1))
        column_sums = column_sums + block.sum(axis=0)
        squares += float(np.square(block).sum())
    rows = np.concatenate(means)
    columns = column_sums / len(rows)
    se_rows = standard_error(rows)
    se_columns = standard_error(columns)
    mean = float(rows.mean())
    if se_rows is None or se_columns is None:
        return CrossedMean(mean, rows, columns, se_rows, se_columns, None, None, None)
    count = rows.size * columns.size
    rest = squares - columns.size * np.square(rows).sum() - rows.size * np.square(columns).sum() + count * mean**2
    freedom = (rows.size - 1, columns.size - 1)
    rest_part = max(float(rest), 0.0) / (freedom[0] * freedom[1] * count)
    parts = MeanSquares(se_rows**2, se_columns**2, rest_part)
    variance, degrees = parts.combined(freedom)
    return CrossedMean(mean, rows, columns, se_rows, se_columns, math.sqrt(variance), degrees, parts)
