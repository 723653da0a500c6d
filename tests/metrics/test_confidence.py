"""Bins of equal mass and the risk-coverage area: against loops and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness_metrics.calibration import expected_calibration_error
from harness_metrics.confidence import (
    AdaptiveCalibrationError,
    RiskCoverage,
    adaptive_calibration_error,
    area_under_risk_coverage,
)


def test_bins_of_equal_mass_by_hand():
    """Six images in three bins of two: |1/2 − .35| / 3 + |1 − .65| / 3 + |1/2 − .9| / 3."""
    confidence = np.array([0.9, 0.3, 0.6, 0.7, 0.4, 0.9])
    right = np.array([True, False, True, True, True, False])
    probabilities = np.stack([confidence, np.full(6, 0.05), 0.95 - confidence - 0.05], axis=1)
    labels = np.where(right, probabilities.argmax(axis=1), 1)
    assert (probabilities.max(axis=1)[[0, 2, 3, 5]] == confidence[[0, 2, 3, 5]]).all()
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    expected = 0.0
    for first in (0, 2, 4):
        pair = order[first : first + 2]
        expected += abs((probabilities.argmax(axis=1) == labels)[pair].mean() - confidence[pair].mean()) / 3
    assert adaptive_calibration_error(probabilities, labels, bins=3) == pytest.approx(expected)


def test_bins_agree_with_a_loop_over_sizes(random_toy, measure):
    """Sizes differ by at most one: 50 images in 15 bins are 5 bins of four, then 10 of three."""
    ensemble = random_toy(0, members=2, examples=50)
    probabilities = ensemble.probabilities.mean(axis=0)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == ensemble.labels
    order = sorted(range(50), key=lambda index: (confidence[index], index))
    expected, first = 0.0, 0
    for size in [4] * 5 + [3] * 10:
        part = order[first : first + size]
        expected += size / 50 * abs(right[part].mean() - confidence[part].mean())
        first += size
    assert measure(AdaptiveCalibrationError, ensemble)["adaptive_calibration_error"] == pytest.approx(expected)


def test_one_bin_is_that_of_equal_width(random_toy):
    """With one bin both errors are the gap between mean confidence and accuracy."""
    ensemble = random_toy(1, members=3, examples=40)
    probabilities = ensemble.probabilities.mean(axis=0)
    expected = expected_calibration_error(probabilities, ensemble.labels, bins=1)
    assert adaptive_calibration_error(probabilities, ensemble.labels, bins=1) == pytest.approx(expected)


def test_more_bins_than_images(random_toy):
    """Each image is a bin of its own."""
    ensemble = random_toy(2, members=1, examples=4)
    probabilities = ensemble.probabilities[0]
    right = probabilities.argmax(axis=1) == ensemble.labels
    expected = np.abs(right - probabilities.max(axis=1)).mean()
    assert adaptive_calibration_error(probabilities, ensemble.labels, bins=15) == pytest.approx(expected)


def brute_force_area(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean over all orders by falling confidence of the mean risk over coverages."""
    areas = []
    for order in itertools.permutations(range(len(right))):
        falling = [confidence[index] for index in order]
        if falling != sorted(falling, reverse=True):
            continue
        risks = [np.mean([not right[index] for index in order[:k]]) for k in range(1, len(right) + 1)]
        areas.append(np.mean(risks))
    return float(np.mean(areas))


@pytest.mark.parametrize("seed", range(5))
def test_risk_coverage_agrees_with_brute_force(seed):
    """It is the expectation over all orders of equal confidences."""
    generator = np.random.default_rng(seed)
    confidence = generator.integers(1, 4, 6) / 4
    right = generator.random(6) < 0.6
    assert area_under_risk_coverage(confidence, right) == pytest.approx(brute_force_area(confidence, right))


def test_risk_coverage_of_the_best_and_of_no_order(toy, measure):
    """Errors last: risks 0, 0, 1/3. All confidences equal: the error rate itself."""
    assert area_under_risk_coverage(np.array([0.9, 0.8, 0.5]), np.array([True, True, False])) == pytest.approx(1 / 9)
    ensemble = toy([[[2.0, 0.0]] * 4], [0, 1, 0, 1])
    assert measure(RiskCoverage, ensemble) == {"area_under_risk_coverage": pytest.approx(50.0)}
