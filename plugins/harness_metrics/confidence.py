"""Calibration in bins of equal mass, and selective prediction: both rank test images by the confidence max_k p̄_k."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options
from harness_metrics.finite import refuse_non_finite

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble


def adaptive_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return Σ_b (n_b / n) |accuracy_b − confidence_b| in [0, 1], over bins of equally many images.

    Probabilities are (examples, classes), labels int64 (examples,). Images are sorted by confidence, equal ones in their order,
    and cut into `bins` parts whose sizes differ by at most one; with fewer images than bins, each image is a bin. Source:
    Nguyen and O'Connor 2015; Nixon et al. 2019, for the predicted class alone.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    order = confidence.argsort(kind="stable")
    total = 0.0
    for part in np.array_split(order, min(bins, len(order))):
        total += abs(float((right[part] - confidence[part]).sum()))
    return total / len(order)


def area_under_risk_coverage(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the mean over k = 1 … n of the error rate among the k most confident images, in [0, 1].

    `confidence` is (examples,), `right` bool (examples,). Equal confidences have no order: the value is the expectation over
    all orders. Source: Geifman, Uziel and El-Yaniv 2019.
    """
    values, group = np.unique(-confidence, return_inverse=True)  # the most confident group first
    errors = np.bincount(group, weights=~right, minlength=len(values))
    counts = np.bincount(group, minlength=len(values))
    expected = np.repeat(errors / counts, counts)  # of each position in the order
    risks = expected.cumsum() / np.arange(1, len(right) + 1)
    return float(risks.mean())


class AdaptiveCalibrationErrorOptions(Options):
    """How `adaptive_calibration_error` bins confidences."""

    bins: int = Field(15, ge=1, le=10_000, description="number of bins with equally many images")


class AdaptiveCalibrationError(Metric):
    """Gap between confidence and accuracy of the averaged probabilities in bins of equal mass, in [0, 1]."""

    name, version = "adaptive_calibration_error", 1
    title, symbol, better = "Calibration error, equal mass", "aECE", "lower"
    Options = AdaptiveCalibrationErrorOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value. It has no standard error, since it is not a mean over examples."""
        refuse_non_finite(ensemble.logits)
        probabilities = ensemble.probabilities.mean(axis=0)
        value = adaptive_calibration_error(probabilities, ensemble.labels, self.options.bins)
        return [MetricValue(self.name, value, better="lower")]


class RiskCoverage(Metric):
    """Area under the risk-coverage curve of the averaged probabilities, in percent: the mean error rate over all coverages."""

    name, version = "area_under_risk_coverage", 1
    title, symbol, better = "Risk-coverage area", "AURC", "lower"

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value. It has no standard error, since it is not a mean over examples."""
        refuse_non_finite(ensemble.logits)
        probabilities = ensemble.probabilities.mean(axis=0)
        right = probabilities.argmax(axis=1) == ensemble.labels
        value = area_under_risk_coverage(probabilities.max(axis=1), right)
        return [MetricValue(self.name, 100 * value, unit="percent", better="lower")]
