"""Holm's correction, and letters for groups that cannot be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import compact_letters, holm, seed_difference
from harness.statistics.multiple import letter

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_holm_by_hand():
    """Sorted p-values are multiplied by 4, 3, 2 and 1, and never fall."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]).tolist() == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]).tolist() == pytest.approx([1.0, 1.0])
    assert holm([]).tolist() == []


def test_holm_against_statsmodels():
    """The adjusted p-values are those of statsmodels."""
    reference = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels, a reference for Holm, is not installed")
    generator = np.random.default_rng(0)
    for count in range(1, 30):
        values = generator.random(count) ** 3
        np.testing.assert_allclose(holm(values), reference.multipletests(values, method="holm")[1], rtol=1e-12)


@given(p_values)
def test_holm_rejects_what_the_stepwise_procedure_rejects(values: list[float]):
    """Compare the smallest p-value with α/m, the next with α/(m − 1), …, and stop at the first that is not below."""
    rejected = set()
    for step, index in enumerate(np.argsort(values, kind="stable")):
        if values[index] * (len(values) - step) >= 0.05:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(holm(values) < 0.05)) == rejected


def test_family_error_by_simulation():
    """Of five equal methods over six seeds, some pair is told apart in at most 5 % of simulations, up to their error."""
    generator = np.random.default_rng(0)
    repetitions, errors = 800, 0
    for _ in range(repetitions):
        values = generator.standard_normal((5, 6)) + 3 * generator.standard_normal(6)
        found = [seed_difference(values[i] - values[j]).p_value or 0.0 for i, j in itertools.combinations(range(5), 2)]
        errors += bool((holm(found) < 0.05).any())
    assert 0.01 < errors / repetitions <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / repetitions)


def test_letters_by_hand():
    """The first differs from the last alone: the others are in both groups."""
    assert compact_letters(3, []) == ["a", "a", "a"]
    assert compact_letters(3, [(0, 2)]) == ["a", "ab", "b"]
    assert compact_letters(3, [(0, 1), (0, 2), (1, 2)]) == ["a", "b", "c"]
    assert compact_letters(1, []) == ["a"]
    assert compact_letters(0, []) == []


@given(st.integers(2, 8), st.data())
def test_letters_say_exactly_what_differs(count: int, data: st.DataObject):
    """Two items share a letter exactly if they are not told apart, and no letter is superfluous."""
    pairs = list(itertools.combinations(range(count), 2))
    different = data.draw(st.sets(st.sampled_from(pairs)))
    letters = compact_letters(count, different)
    for i, j in pairs:
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different)
    groups = [{item for item in range(count) if name in letters[item]} for name in sorted(set("".join(letters)))]
    assert not any(first < second for first in groups for second in groups)


def test_more_than_26_letters():
    """They are pairs of letters in parentheses, so that they cannot be taken for two letters."""
    assert [letter(number) for number in (0, 25, 26, 27, 51, 52)] == ["a", "z", "(aa)", "(ab)", "(az)", "(ba)"]
