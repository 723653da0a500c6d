"""Means over test examples: the values beside them, and the standard error of joint connectivity by simulation."""

import numpy as np
import pytest

from harness_metrics import JointConnectivity
from harness_metrics.sampling import mean_over_examples


def test_values_beside_their_mean():
    """The value is their mean, and the values themselves are its examples."""
    values = np.array([1.0, 2.0, 6.0])
    found = mean_over_examples("loss", values, "nats", "lower")
    assert (found.metric, found.value, found.unit, found.better) == ("loss", 3.0, "nats", "lower")
    assert found.standard_error == pytest.approx(np.sqrt(7 / 3))
    assert found.examples is values


def test_standard_error_of_joint_connectivity(toy):
    """Over ensembles with new images and new draws, the reported variance is the variance of the reported q̄."""
    generator = np.random.default_rng(4)
    estimates = []
    for seed in range(600):
        thresholds = generator.random(60)  # one per image: they make examples differ

        def right(points, thresholds=thresholds):
            return 0.9 - 0.7 * (1 - np.square(points).sum(axis=1))[:, None] > thresholds

        ensemble = toy(np.zeros((3, 60, 2)), np.zeros(60), seed=seed)
        ensemble.correct = right(np.eye(3))
        ensemble.correct_at = lambda points, correction, right=right: right(points)
        metric = JointConnectivity(JointConnectivity.Options(draws=10))
        values = {value.metric: value.value for value in metric.measure(ensemble)}
        estimates.append((values["joint_connectivity"], values["joint_connectivity_se"]))
    means, errors = np.array(estimates).T
    assert np.mean(np.square(errors)) == pytest.approx(np.var(means), rel=0.15)
