"""Standard errors of means: against SciPy, against the analysis of variance, and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import crossed_mean, standard_error


def random_table(generator, rows, columns, spread):
    """Return a table with mean 3 and independent effects, `spread` the deviations of rows, columns and cells."""
    row = spread[0] * generator.standard_normal((rows, 1))
    column = spread[1] * generator.standard_normal((1, columns))
    cell = spread[2] * generator.standard_normal((rows, columns))
    return 3 + row + column + cell


def test_standard_error_agrees_with_scipy():
    """It equals SciPy's standard error of the mean; a single value has none."""
    sample = np.random.default_rng(0).random(17)
    assert standard_error(sample) == pytest.approx(stats.sem(sample))
    assert standard_error(sample[:1]) is None


def test_parts_agree_with_the_analysis_of_variance():
    """The three variances are the mean squares, computed cell by cell, divided by the number of cells."""
    table = random_table(np.random.default_rng(1), 6, 9, (3, 2, 1))
    mean = table.mean()
    row = table.mean(axis=1)
    column = table.mean(axis=0)
    squares = 0.0
    for r in range(6):
        for c in range(9):
            squares += (table[r, c] - row[r] - column[c] + mean) ** 2
    ms_rest = squares / 40
    ms_rows = 9 * sum((row - mean) ** 2) / 5
    ms_columns = 6 * sum((column - mean) ** 2) / 8
    estimate = crossed_mean([table])
    assert estimate.mean == pytest.approx(mean)
    assert estimate.se_rows == pytest.approx(np.sqrt(ms_rows / 54))
    assert estimate.se_columns == pytest.approx(np.sqrt(ms_columns / 54))
    assert estimate.se == pytest.approx(np.sqrt((ms_rows + ms_columns - ms_rest) / 54))


def test_table_in_blocks():
    """Blocks of rows give the values of the whole table."""
    table = random_table(np.random.default_rng(2), 20, 7, (1, 1, 1))
    whole = crossed_mean([table])
    blocks = crossed_mean(np.split(table, [3, 4, 15]))
    np.testing.assert_array_equal(blocks.rows, whole.rows)
    assert (blocks.mean, blocks.se_rows) == (whole.mean, whole.se_rows)
    assert (blocks.se_columns, blocks.se, blocks.degrees) == pytest.approx((whole.se_columns, whole.se, whole.degrees))


@pytest.mark.parametrize("spread", [(1, 1, 1), (2, 0.5, 1), (0.3, 3, 1), (1, 1, 0)])
def test_variance_is_that_of_simulated_means(spread):
    """Over many tables the mean estimate is the true variance, and 95 % of the intervals contain the true mean."""
    generator = np.random.default_rng(3)
    rows, columns = 12, 40
    estimates = [crossed_mean([random_table(generator, rows, columns, spread)]) for _ in range(3000)]
    truth = spread[0] ** 2 / rows + spread[1] ** 2 / columns + spread[2] ** 2 / (rows * columns)
    assert np.mean([e.se**2 for e in estimates]) == pytest.approx(truth, rel=0.05)
    assert np.var([e.mean for e in estimates]) == pytest.approx(truth, rel=0.1)
    intervals = [estimate.interval(0.95) for estimate in estimates]
    coverage = np.mean([low <= 3 <= high for low, high in intervals])
    assert 0.935 < coverage < 0.965


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 6), columns=st.integers(2, 6))
def test_total_is_at_least_each_part(seed, rows, columns):
    """The estimates have the order of the true variances."""
    estimate = crossed_mean([random_table(np.random.default_rng(seed), rows, columns, (0.1, 0.1, 1))])
    assert estimate.se >= max(estimate.se_rows, estimate.se_columns) - 1e-12


def test_constant_table():
    """Standard errors are 0 and the interval is one point."""
    estimate = crossed_mean([np.full((4, 5), 2.0)])
    assert (estimate.mean, estimate.se_rows, estimate.se_columns, estimate.se) == (2, 0, 0, 0)
    assert estimate.interval() == (2, 2)


def test_single_row_or_column():
    """Standard errors that one row or one column cannot give are None."""
    table = np.random.default_rng(5).random((4, 5))
    row = crossed_mean([table[:1]])
    column = crossed_mean([table[:, :1]])
    assert (row.se_rows, row.se, row.interval()) == (None, None, None)
    assert (column.se_columns, column.se, column.interval()) == (None, None, None)
    assert row.se_columns == pytest.approx(stats.sem(table[0]))
