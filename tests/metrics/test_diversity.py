"""Diversity of members' predictions, against published values and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from harness_metrics import Disagreement, JensenShannonDivergence, PredictiveVariance
from harness_metrics.diversity import disagreement, jensen_shannon_divergence, predictive_variance

GOLDEN = np.array(
    [[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]], [[0.2, 0.5, 0.3], [0.05, 0.9, 0.05]]]
)
LABELS = np.array([0, 1])
METRICS = (PredictiveVariance, JensenShannonDivergence, Disagreement)
UPPER = {PredictiveVariance: 0.25, JensenShannonDivergence: np.log(2), Disagreement: 100}


def test_predictive_variance_of_the_golden_vector():
    """Values are those of the code of Abe et al., to 1e-7."""
    values = predictive_variance(GOLDEN, LABELS)
    np.testing.assert_allclose([*values, values.mean()], [0.0422222, 0.0466667, 0.0444444], rtol=0, atol=1e-7)


def test_jensen_shannon_divergence_of_the_golden_vector():
    """Values are those of the code of Abe et al., to 1e-7."""
    values = jensen_shannon_divergence(GOLDEN)
    np.testing.assert_allclose([*values, values.mean()], [0.0504170, 0.0637450, 0.0570810], rtol=0, atol=1e-7)


def test_golden_vector_through_the_metrics(toy, measure):
    """Logits whose softmax is the golden vector give its means, up to the rounding of float32 logits."""
    ensemble = toy(np.log(GOLDEN), LABELS)
    assert measure(PredictiveVariance, ensemble) == {"predictive_variance": pytest.approx(0.0444444, abs=1e-6)}
    assert measure(JensenShannonDivergence, ensemble) == {"jensen_shannon_divergence": pytest.approx(0.0570810, abs=1e-6)}


def test_jensen_shannon_divergence_agrees_with_scipy(random_toy):
    """It equals the mean over members of the squared SciPy distance to the mean of the other members."""
    probabilities = random_toy(1, members=5, examples=30).probabilities
    squares = []
    for member in range(5):
        others = np.delete(probabilities, member, axis=0).mean(axis=0)
        squares.append(jensenshannon(probabilities[member], others, axis=1) ** 2)
    np.testing.assert_allclose(jensen_shannon_divergence(probabilities), np.mean(squares, axis=0), atol=1e-12)


def test_members_with_opposite_predictions(toy, measure):
    """Two members with probability 1 for different classes reach the upper bounds: 1/4, ln 2 and 100 %."""
    ensemble = toy([[[1e4, -1e4]], [[-1e4, 1e4]]], [0])
    for metric in METRICS:
        assert measure(metric, ensemble)[metric.name] == pytest.approx(UPPER[metric])


def test_disagreement_by_hand():
    """Of the pairs of three members, none, two and all three differ."""
    predictions = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 2]])
    np.testing.assert_allclose(disagreement(predictions), [0, 200 / 3, 100])


@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_members_does_not_matter(seed, toy, random_toy, measure):
    """Permuted members give the same diversity up to rounding."""
    ensemble = random_toy(seed, members=4)
    permuted = toy(ensemble.logits[np.random.default_rng(seed).permutation(4)], ensemble.labels)
    for metric in METRICS:
        assert measure(metric, permuted) == pytest.approx(measure(metric, ensemble), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5), scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_identical_members_have_no_diversity(seed, members, scale, toy, measure):
    """All metrics are 0 for copies of one member, also for M = 1."""
    logits = scale * np.random.default_rng(seed).standard_normal((1, 6, 3))
    ensemble = toy(logits.repeat(members, axis=0), np.zeros(6))
    for metric in METRICS:
        assert measure(metric, ensemble)[metric.name] == pytest.approx(0, abs=1e-14)


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5), scale=st.sampled_from([0.1, 3.0, 1e4]))
def test_values_stay_in_their_ranges(seed, members, scale, random_toy, measure):
    """Variance is in [0, 1/4], divergence in [0, ln 2], disagreement in [0, 100], also for saturated logits."""
    ensemble = random_toy(seed, members, examples=3, scale=scale)
    for metric in METRICS:
        assert 0 <= measure(metric, ensemble)[metric.name] <= UPPER[metric] + 1e-12


def test_diversity_has_no_direction(random_toy):
    """Neither higher nor lower values are better."""
    values = [next(iter(metric().measure(random_toy(0)))) for metric in METRICS]
    assert [(value.unit, value.better) for value in values] == [("", ""), ("nats", ""), ("percent", "")]


def test_single_example(random_toy):
    """It gives a finite value without a standard error."""
    for metric in METRICS:
        value = next(iter(metric().measure(random_toy(0, examples=1))))
        assert np.isfinite(value.value)
        assert value.standard_error is None
