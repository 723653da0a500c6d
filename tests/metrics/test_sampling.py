import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness_metrics import JointConnectivity
from harness_metrics.sampling import crossed_mean, standard_error


def random_table(generator, rows, columns, spread):
    """A table of independent effects with standard deviations `spread` of rows, columns and cells, around 3."""
    row, column, cell = (s * generator.standard_normal(n) for s, n in zip(spread, ((rows, 1), (1, columns), (rows, columns))))
    return 3 + row + column + cell


def test_standard_error_agrees_with_scipy():
    """It is scipy's standard error of the mean."""
    sample = np.random.default_rng(0).random(17)
    assert standard_error(sample) == pytest.approx(stats.sem(sample))
    assert standard_error(sample[:1]) is None


def test_parts_agree_with_the_analysis_of_variance():
    """The three variances are the mean squares computed cell by cell, divided by the number of cells."""
    table = random_table(np.random.default_rng(1), 6, 9, (3, 2, 1))
    mean, row, column = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = sum((table[r, c] - row[r] - column[c] + mean) ** 2 for r in range(6) for c in range(9)) / 40
    ms_rows, ms_columns = 9 * sum((row - mean) ** 2) / 5, 6 * sum((column - mean) ** 2) / 8
    estimate = crossed_mean([table])
    assert estimate.mean == pytest.approx(mean)
    assert estimate.se_rows == pytest.approx(np.sqrt(ms_rows / 54))
    assert estimate.se_columns == pytest.approx(np.sqrt(ms_columns / 54))
    assert estimate.se == pytest.approx(np.sqrt((ms_rows + ms_columns - rest) / 54))


def test_blocks_change_nothing():
    """A table in blocks of rows gives what the whole table gives."""
    table = random_table(np.random.default_rng(2), 20, 7, (1, 1, 1))
    whole, blocks = crossed_mean([table]), crossed_mean(np.split(table, [3, 4, 15]))
    np.testing.assert_array_equal(blocks.rows, whole.rows)
    assert (blocks.mean, blocks.se_rows) == (whole.mean, whole.se_rows)
    assert (blocks.se_columns, blocks.se, blocks.degrees) == pytest.approx((whole.se_columns, whole.se, whole.degrees))


@pytest.mark.parametrize("spread", [(1, 1, 1), (2, 0.5, 1), (0.3, 3, 1), (1, 1, 0)])
def test_variance_is_that_of_simulated_means(spread):
    """Over many tables the estimated variance of the mean is the true one, and 95 % intervals hold the mean in 95 %."""
    generator, rows, columns = np.random.default_rng(3), 12, 40
    estimates = [crossed_mean([random_table(generator, rows, columns, spread)]) for _ in range(3000)]
    truth = spread[0] ** 2 / rows + spread[1] ** 2 / columns + spread[2] ** 2 / (rows * columns)
    assert np.mean([e.se**2 for e in estimates]) == pytest.approx(truth, rel=0.05)
    assert np.var([e.mean for e in estimates]) == pytest.approx(truth, rel=0.1)
    held = np.mean([low <= 3 <= high for low, high in (e.interval(0.95) for e in estimates)])
    assert 0.935 < held < 0.965


def test_variance_of_joint_connectivity_is_that_over_new_draws_and_new_images(toy):
    """Ensembles over fresh images, measured with fresh draws: the reported total is the spread of the reported q̄."""
    generator = np.random.default_rng(4)
    estimates = []
    for seed in range(600):
        ease = generator.random(60)  # an image's own threshold: what makes examples differ

        def right(points, ease=ease):
            return 0.9 - 0.7 * (1 - np.square(points).sum(axis=1))[:, None] > ease

        ensemble = toy(np.zeros((3, 60, 2)), np.zeros(60), seed=seed)
        ensemble.correct, ensemble.correct_at = right(np.eye(3)), lambda points, batchnorm, right=right: right(points)
        values = {v.metric: v.value for v in JointConnectivity(JointConnectivity.Options(draws=10)).measure(ensemble)}
        estimates.append((values["joint_connectivity"], values["joint_connectivity_se"]))
    means, errors = np.array(estimates).T
    assert np.mean(np.square(errors)) == pytest.approx(np.var(means), rel=0.15)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 6), columns=st.integers(2, 6))
def test_total_is_never_below_a_part(seed, rows, columns):
    """The truncated estimate keeps the order that holds for the true variances."""
    estimate = crossed_mean([random_table(np.random.default_rng(seed), rows, columns, (0.1, 0.1, 1))])
    assert estimate.se >= max(estimate.se_rows, estimate.se_columns) - 1e-12


def test_constant_table_is_certain():
    """No spread at all: standard errors 0 and an interval of one point."""
    estimate = crossed_mean([np.full((4, 5), 2.0)])
    assert (estimate.mean, estimate.se_rows, estimate.se_columns, estimate.se) == (2, 0, 0, 0)
    assert estimate.interval() == (2, 2)


def test_single_row_or_column_tells_no_total():
    """What one row or one column cannot tell is None."""
    table = np.random.default_rng(5).random((4, 5))
    row, column = crossed_mean([table[:1]]), crossed_mean([table[:, :1]])
    assert (row.se_rows, row.se, row.interval()) == (None, None, None)
    assert (column.se_columns, column.se, column.interval()) == (None, None, None)
    assert row.se_columns == pytest.approx(stats.sem(table[0]))
