"""Temperature of the pooled probabilities, and their likelihood after it: pool, then calibrate (Rahaman and Thiery 2021).

One temperature T is fitted to p̄ = (1 / M) Σ_m p_m: the calibrated probabilities are proportional to p̄^(1/T). Calibrating the
members before pooling would leave the pool under-confident. There is no validation split, so T is cross-fitted on the test
images: fitted on one half, used on the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import Metric, MetricValue
from harness_metrics.calibration import expected_calibration_error
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import Dataset, EvaluatedEnsemble

LOWEST, HIGHEST = 0.05, 20.0
"""The range of T. The likelihood of images that are all classified correctly has no maximum: it grows as T falls to 0."""
_STEPS = 200
_TOLERANCE = 1e-12  # of 1 / T
_EQUAL = 1e-12  # largest difference of ln p between classes that rounding may leave


def pooled_log_probabilities(log_probabilities: np.ndarray) -> np.ndarray:
    """Return ln p̄, (examples, classes), from log-probabilities (members, examples, classes), by log-sum-exp over members."""
    return np.logaddexp.reduce(log_probabilities, axis=0) - np.log(len(log_probabilities))


def scaled_log_probabilities(log_probabilities: np.ndarray, temperature: np.ndarray | float) -> np.ndarray:
    """Return the logarithms of probabilities proportional to p^(1/T), (examples, classes); T is a number or (examples, 1)."""
    scaled = log_probabilities / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1)[:, None]


def likelihood_slope(log_probabilities: np.ndarray, labels: np.ndarray, inverse: float) -> tuple[float, float]:
    """Return the first and the second derivative of the mean −ln p_T(label) with respect to `inverse` = 1 / T.

    They are the mean over examples of E[ℓ] − ℓ_label, and of Var[ℓ], for ℓ = ln p and expectations under p_T: the second
    derivative is never negative, so that the mean is convex in 1 / T.
    """
    probabilities = np.exp(scaled_log_probabilities(log_probabilities, 1 / inverse))
    expected = (probabilities * log_probabilities).sum(axis=1)
    own = log_probabilities[np.arange(len(labels)), labels]
    variance = (probabilities * (log_probabilities - expected[:, None]) ** 2).sum(axis=1)
    return float((expected - own).mean()), float(variance.mean())


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the T in [0.05, 20] that minimizes the mean −ln p_T(label), p_T proportional to p^(1/T).

    `log_probabilities` are float64 (examples, classes), labels int64 (examples,). The minimum is found by Newton's method in
    1 / T, with bisection where a step would leave the interval that contains it. T is 1 if the classes of each image have equal
    probabilities, which no T changes.
    """
    if np.ptp(log_probabilities, axis=1).max() < _EQUAL:
        return 1.0
    low, high = 1 / HIGHEST, 1 / LOWEST
    if likelihood_slope(log_probabilities, labels, low)[0] >= 0:
        return HIGHEST
    if likelihood_slope(log_probabilities, labels, high)[0] <= 0:
        return LOWEST
    inverse = 1.0
    for _ in range(_STEPS):
        slope, curvature = likelihood_slope(log_probabilities, labels, inverse)
        if slope > 0:
            high = inverse
        else:
            low = inverse
        following = inverse - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - inverse) <= _TOLERANCE * inverse:
            break
        inverse = following
    return 1 / inverse


@dataclass(frozen=True)
class CrossFit:
    """Two halves of the test images with a temperature each.

    `temperatures` are those fitted on half 0 and on half 1. `log_probabilities` (examples, classes) are scaled by the
    temperature that was fitted on the other half.
    """

    temperatures: tuple[float, float]
    log_probabilities: np.ndarray


def cross_fit(ensemble: EvaluatedEnsemble) -> CrossFit:
    """Return the temperatures of two random halves of the test images.

    The halves have equally many misclassified images, up to one: a half without any would have no best temperature.

    Raise `ValueError` for fewer than two images, and for labels of a single class.
    """
    labels = ensemble.labels
    refuse_non_finite(ensemble.logits)
    if len(labels) < 2:
        raise ValueError(f"a temperature is fitted on two halves of the test images; there are {len(labels)}, at least 2")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"a temperature needs labels of at least 2 classes; all {len(labels)} test images are of one")
    pooled = pooled_log_probabilities(ensemble.log_probabilities)
    right = pooled.argmax(axis=1) == labels
    half = np.empty(len(labels), dtype=np.int64)
    half[np.lexsort((ensemble.uniform("temperature", len(labels)), right))] = np.arange(len(labels)) % 2
    first, second = (fit_temperature(pooled[half == index], labels[half == index]) for index in (0, 1))
    others = np.where(half == 0, second, first)
    return CrossFit((first, second), scaled_log_probabilities(pooled, others[:, None]))


class CrossFittedMetric(Metric):
    """A metric of the temperature, which needs two test images and two classes."""

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise `ValueError` for a data set with a single class, or with a single test image."""
        name = f"data set '{dataset.full_name}'"
        if dataset.num_classes < 2:
            raise ValueError(f"{name} has {dataset.num_classes} class; a temperature needs labels of at least 2")
        size: Any = getattr(dataset.options, "test_size", None)
        if size is not None and size < 2:
            raise ValueError(f"{name} has test_size {size}; a temperature needs at least 2 test images")


class Temperature(CrossFittedMetric):
    """Temperature that calibrates the averaged probabilities: above 1 they are over-confident, below 1 under-confident."""

    name, version = "temperature", 1
    title, symbol, better = "Temperature", "T", ""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the geometric mean of the two halves' temperatures, then both."""
        first, second = cross_fit(ensemble).temperatures
        yield MetricValue(self.name, float(np.sqrt(first * second)))
        yield MetricValue(f"{self.name}/0", first)
        yield MetricValue(f"{self.name}/1", second)


class CalibratedLikelihood(CrossFittedMetric):
    """Negative log-likelihood of the averaged probabilities after a cross-fitted temperature, in nats."""

    name, version = "calibrated_negative_log_likelihood", 1
    title, symbol, better = "Log-likelihood loss, calibrated", "NLL(T)", "lower"

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the likelihood, then the expected calibration error after the temperature, in 15 bins."""
        fit = cross_fit(ensemble)
        labels = ensemble.labels
        values = np.maximum(-fit.log_probabilities[np.arange(len(labels)), labels], 0.0)
        yield mean_over_examples(self.name, values, "nats", "lower")
        error = expected_calibration_error(np.exp(fit.log_probabilities), labels)
        yield MetricValue("calibrated_expected_calibration_error", error, better="lower")
