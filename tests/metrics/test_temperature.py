"""The temperature of the averaged probabilities: against closed forms, scaled logits and drawn labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

import harness
import toys
from harness_metrics.calibration import expected_calibration_error
from harness_metrics.temperature import (
    CalibratedLikelihood,
    Temperature,
    cross_fit,
    fit_temperature,
    likelihood_slope,
    pooled_log_probabilities,
    scaled_log_probabilities,
)
from harness_vision.digits import Digits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, from logits (…, classes)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def drawn(seed: int, examples: int, classes: int = 5, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return random log-probabilities, and labels that are drawn from the probabilities."""
    generator = np.random.default_rng(seed)
    logs = log_softmax(scale * generator.standard_normal((examples, classes)))
    edges = np.exp(logs).cumsum(axis=1)
    labels = (generator.random((examples, 1)) > edges[:, :-1]).sum(axis=1)
    return logs, labels


@pytest.mark.parametrize("factor", [0.25, 0.5, 3.0])
def test_scaled_logits_scale_the_temperature(factor):
    """Logits times s have the temperature times s."""
    logs, labels = drawn(0, 400)
    assert fit_temperature(log_softmax(factor * logs), labels) == pytest.approx(
        factor * fit_temperature(logs, labels), rel=1e-9
    )


def test_derivative_at_the_optimum_is_zero_and_the_minimum_is_scipys():
    """The slope vanishes at 1 / T, and a scalar minimizer finds the same T."""
    logs, labels = drawn(1, 300, scale=4.0)
    labels[::3] = 0
    temperature = fit_temperature(logs, labels)

    def loss(inverse: float) -> float:
        return -scaled_log_probabilities(logs, 1 / inverse)[np.arange(300), labels].mean()

    assert abs(likelihood_slope(logs, labels, 1 / temperature)[0]) < 1e-10
    found = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-10})
    assert 1 / found.x == pytest.approx(temperature, rel=1e-6)


def test_slope_and_curvature_are_derivatives_of_the_likelihood():
    """Both agree with finite differences."""
    logs, labels = drawn(2, 50)

    def loss(inverse: float) -> float:
        return -scaled_log_probabilities(logs, 1 / inverse)[np.arange(50), labels].mean()

    step = 1e-4
    slope, curvature = likelihood_slope(logs, labels, 0.7)
    assert slope == pytest.approx((loss(0.7 + step) - loss(0.7 - step)) / (2 * step), abs=1e-6)
    assert curvature == pytest.approx((loss(0.7 + step) - 2 * loss(0.7) + loss(0.7 - step)) / step**2, rel=1e-4)


def test_labels_drawn_from_the_probabilities_need_no_temperature():
    """T is 1 up to sampling error."""
    logs, labels = drawn(3, 40_000)
    curvature = likelihood_slope(logs, labels, 1.0)[1]
    sampling_error = 1 / np.sqrt(40_000 * curvature)
    assert abs(1 / fit_temperature(logs, labels) - 1) < 4 * sampling_error


def test_ends_of_the_range():
    """Images that are all right have the lowest temperature; labels against the probabilities the highest."""
    logs, _ = drawn(4, 50)
    assert fit_temperature(logs, logs.argmax(axis=1)) == 0.05
    assert fit_temperature(logs, logs.argmin(axis=1)) == 20.0


@pytest.mark.parametrize("size", [0.0, 1e-30, 3e38], ids=["zero", "tiny", "huge"])
def test_equal_probabilities_need_no_temperature(toy, measure, size):
    """No T changes them, so T is 1, and the likelihood is ln K."""
    ensemble = toy(np.full((2, 6, 10), size), [0, 1, 2, 3, 4, 5])
    assert measure(Temperature, ensemble) == {"temperature": 1.0, "temperature/0": 1.0, "temperature/1": 1.0}
    found = measure(CalibratedLikelihood, ensemble)["calibrated_negative_log_likelihood"]
    assert found == pytest.approx(np.log(10))


def test_largest_logits(toy, measure):
    """Logits at the ends of float32 give finite values: a member that is always right has the likelihood 0."""
    labels = np.arange(8) % 4
    right = np.where(np.eye(4)[labels] > 0, 3.4e38, -3.4e38)
    assert measure(CalibratedLikelihood, toy([right], labels))["calibrated_negative_log_likelihood"] == 0
    values = measure(CalibratedLikelihood, toy([np.roll(right, 1, axis=1)], labels))
    assert values["calibrated_negative_log_likelihood"] == pytest.approx(2 * 3.4e38 / 20)
    assert measure(Temperature, toy([np.roll(right, 1, axis=1)], labels))["temperature"] == pytest.approx(20)


def test_two_images(toy, measure):
    """Each is a half: two right ones have the lowest temperature, two wrong ones the highest, one of each the mean, 1."""
    right = [[1.0, 0.0], [0.0, 1.0]]
    assert measure(Temperature, toy([right], [0, 1]))["temperature"] == pytest.approx(0.05)
    assert measure(Temperature, toy([right], [1, 0]))["temperature"] == pytest.approx(20)
    values = measure(Temperature, toy([[[1.0, 0.0], [1.0, 0.0]]], [0, 1]))
    assert sorted(values.values()) == pytest.approx([0.05, 1.0, 20.0])


def test_a_class_that_one_half_lacks(toy, measure):
    """A class with a single image is in one half; both temperatures are found all the same."""
    logits, labels = drawn(8, 41)
    labels[:] = labels % 3
    labels[0] = 4
    values = measure(Temperature, toy([logits], labels))
    assert all(0.05 <= value <= 20 for value in values.values())


def test_pool_is_the_mean_of_probabilities(random_toy):
    """ln p̄ by log-sum-exp is the logarithm of the averaged softmax."""
    ensemble = random_toy(0, members=3)
    expected = np.log(ensemble.probabilities.mean(axis=0))
    np.testing.assert_allclose(pooled_log_probabilities(ensemble.log_probabilities), expected, atol=1e-12)


def test_halves_are_fitted_apart_and_used_for_each_other(toy, measure):
    """Each half's images have the temperature of the other half; both are reported."""
    logits, labels = drawn(5, 41)
    ensemble = toy([logits, 0.7 * logits], labels)
    fit = cross_fit(ensemble)
    pooled = pooled_log_probabilities(ensemble.log_probabilities)
    used = np.empty(41, dtype=int)
    for index in range(41):
        for half, temperature in enumerate(fit.temperatures):
            if np.allclose(fit.log_probabilities[index], log_softmax(pooled[index] / temperature), atol=1e-12):
                used[index] = half
    halves = [np.flatnonzero(used == 1), np.flatnonzero(used == 0)]  # half 0 uses the temperature of half 1
    assert sorted(map(len, halves)) == [20, 21]
    for half, temperature in zip(halves, fit.temperatures, strict=True):
        assert fit_temperature(pooled[half], ensemble.labels[half]) == pytest.approx(temperature)
    wrong = pooled.argmax(axis=1) != ensemble.labels
    assert abs(wrong[halves[0]].sum() - wrong[halves[1]].sum()) <= 1
    values = measure(Temperature, ensemble)
    assert (values["temperature/0"], values["temperature/1"]) == fit.temperatures
    assert values["temperature"] == pytest.approx(np.sqrt(np.prod(fit.temperatures)))


def test_calibrated_likelihood_and_error(random_toy, measure):
    """They are those of the scaled probabilities, and the predicted classes stay the same."""
    ensemble = random_toy(6, members=3, examples=60)
    fit = cross_fit(ensemble)
    pooled = pooled_log_probabilities(ensemble.log_probabilities)
    np.testing.assert_array_equal(fit.log_probabilities.argmax(axis=1), pooled.argmax(axis=1))
    values = measure(CalibratedLikelihood, ensemble)
    expected = -fit.log_probabilities[np.arange(60), ensemble.labels].mean()
    assert values["calibrated_negative_log_likelihood"] == pytest.approx(expected)
    error = expected_calibration_error(np.exp(fit.log_probabilities), ensemble.labels)
    assert values["calibrated_expected_calibration_error"] == pytest.approx(error)


def test_too_few_images_and_a_single_class(toy, measure):
    """One line says what a temperature needs."""
    with pytest.raises(
        ValueError, match=r"^a temperature is fitted on two halves of the test images; there are 1, at least 2$"
    ):
        measure(Temperature, toy([[[1.0, 0.0]]], [0]))
    with pytest.raises(ValueError, match=r"^a temperature needs labels of at least 2 classes; all 3 test images are of one$"):
        measure(CalibratedLikelihood, toy([[[1.0, 0.0]] * 3], [0, 0, 0]))


class OneClass(toys.Blobs):
    """Blobs of a single class."""

    num_classes = 1


def test_data_sets_that_a_temperature_cannot_be_fitted_on():
    """They are refused before training: a single class, a single test image."""
    with pytest.raises(ValueError, match=r"^data set 'blobs' has 1 class; a temperature needs labels of at least 2$"):
        Temperature().check_dataset(OneClass())
    with pytest.raises(ValueError, match=r"^data set 'digits' has test_size 1; a temperature needs at least 2 test images$"):
        CalibratedLikelihood().check_dataset(Digits(Digits.Options(test_size=1)))
    Temperature().check_dataset(Digits())
    Temperature().check_dataset(toys.Blobs())


def test_refused_by_harness_check(benchmark_of):
    """The benchmark file is refused with the place of the metric."""
    line = (
        r"toy.yaml:12:3: temperature on digits: data set 'digits' has test_size 1; a temperature needs at least 2 test images"
    )
    with pytest.raises(harness.UserError, match=line):
        benchmark_of(datasets=[{"digits": {"test_size": 1}}], metrics=["temperature"])


def test_likelihood_agrees_with_torch_at_one_member(random_toy):
    """For a single member, scaling ln p is scaling its logits."""
    ensemble = random_toy(7, members=1, examples=30)
    labels = torch.tensor(ensemble.labels)
    expected = F.cross_entropy(torch.tensor(ensemble.logits[0]).double() / 1.7, labels)
    scaled = scaled_log_probabilities(ensemble.log_probabilities[0], 1.7)
    assert -scaled[np.arange(30), ensemble.labels].mean() == pytest.approx(float(expected), abs=1e-6)
