"""Means and standard deviations, against the module `statistics`."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.leaderboard import mean_and_std

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 100) | st.integers(0, 9).map(float)


@given(st.lists(numbers, min_size=2, max_size=8))
@settings(deadline=None, max_examples=300)
def test_any_values(values: list[float]) -> None:
    """Both are those of the module, to the last digit; a standard deviation that is too large is infinite."""
    mean, std = mean_and_std(values)
    assert mean == statistics.mean(values)
    try:
        assert std == statistics.stdev(values)
    except OverflowError:
        assert std == math.inf


@pytest.mark.parametrize("value", [0.1, 1e308, 5e-324, -0.0, 94.43])
def test_equal_values(value: float) -> None:
    """Their mean is the value, and their standard deviation is 0."""
    assert mean_and_std([value] * 7) == (value, 0.0)


@pytest.mark.parametrize("values", [[math.nan, 1.0], [math.inf, 1.0], [math.inf, -math.inf]])
def test_values_that_are_not_finite(values: list[float]) -> None:
    """They have no standard deviation."""
    mean, std = mean_and_std(values)
    assert std is None
    assert math.isnan(mean) or mean == math.inf


def test_one_value() -> None:
    """It is its own mean."""
    assert mean_and_std([94.43]) == (94.43, None)
