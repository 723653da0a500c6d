"""Proper scores and calibration of the averaged probabilities, p̄ = (1 / M) Σ_m p_m. Lower is better for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble


def negative_log_likelihood(log_probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return −ln p̄(label) in nats, (examples,), from log-probabilities (members, examples, classes) and labels (examples,).

    The mean is computed by log-sum-exp over members, so it is finite for all finite logits. Source: Lakshminarayanan et al.
    2017.
    """
    own = log_probabilities[:, np.arange(len(labels)), labels]  # (members, examples)
    return np.maximum(np.log(len(own)) - np.logaddexp.reduce(own, axis=0), 0.0)  # rounding may leave −1e-16


@dataclass(frozen=True)
class CalibrationBins:
    """Examples by confidence: their number in each bin, and the mean confidence and accuracy there, in [0, 1], all (bins,).

    Both means are 0 in an empty bin. Bin b of B (from 1) has the confidences in ((b − 1) / B, b / B].
    """

    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Σ_b (n_b / n) |accuracy_b − confidence_b|, in [0, 1]. Source: Guo et al. 2017, equation 3."""
        gaps = np.abs(self.accuracies - self.confidences)
        return float((self.counts * gaps).sum() / self.counts.sum())


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> CalibrationBins:
    """Return the bins of probabilities (examples, classes): the confidence is the largest of an example's probabilities.

    The bins of torchmetrics are closed on the left: the two differ only if a confidence is on an edge of a bin, such as
    exactly 1.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.arange(1, bins) / bins  # inner edges only: a confidence rounded to above 1 is in the last bin
    index = edges.searchsorted(confidence, side="left")
    counts = np.bincount(index, minlength=bins)
    filled = np.maximum(counts, 1)
    confidences = np.bincount(index, weights=confidence, minlength=bins) / filled
    accuracies = np.bincount(index, weights=right, minlength=bins) / filled
    return CalibrationBins(counts, confidences, accuracies)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return Σ_b (n_b / n) |accuracy_b − confidence_b| in [0, 1], from probabilities (examples, classes)."""
    return calibration_bins(probabilities, labels, bins).expected_calibration_error


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return Σ_k (p_k − [k = label])², (examples,), in [0, 2], from probabilities (examples, classes).

    Source: Brier 1950, who sums over all classes; some authors divide by 2 or by the number of classes.
    """
    residual = probabilities.copy()
    residual[np.arange(len(labels)), labels] -= 1.0
    return np.einsum("ek,ek->e", residual, residual)


class NegativeLogLikelihood(Metric):
    """Negative log-likelihood of the test labels under the averaged probabilities, in nats."""

    name, version = "negative_log_likelihood", 1
    title, symbol, better = "Log-likelihood loss", "NLL", "lower"

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        values = negative_log_likelihood(ensemble.log_probabilities, ensemble.labels)
        return [mean_over_examples(self.name, values, "nats", "lower")]


class ExpectedCalibrationErrorOptions(Options):
    """How `expected_calibration_error` bins confidences."""

    bins: int = Field(15, ge=1, le=10_000, description="number of bins of equal width, closed on the right")


class ExpectedCalibrationError(Metric):
    """Gap between confidence and accuracy of the averaged probabilities, in [0, 1]."""

    name, version = "expected_calibration_error", 1
    title, symbol, better = "Calibration error", "ECE", "lower"
    Options = ExpectedCalibrationErrorOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the error, then number of examples, mean confidence and accuracy of each bin that has examples.

        The error has no standard error, since it is not a mean over examples.
        """
        refuse_non_finite(ensemble.logits)
        bins = calibration_bins(ensemble.probabilities.mean(axis=0), ensemble.labels, self.options.bins)
        yield MetricValue(self.name, bins.expected_calibration_error, better="lower")
        for index in np.flatnonzero(bins.counts):
            yield MetricValue(f"calibration_count/{index + 1}", float(bins.counts[index]))
            yield MetricValue(f"calibration_confidence/{index + 1}", 100 * float(bins.confidences[index]), unit="percent")
            yield MetricValue(f"calibration_accuracy/{index + 1}", 100 * float(bins.accuracies[index]), unit="percent")


class BrierScore(Metric):
    """Squared error of the averaged probabilities, summed over classes, in [0, 2]."""

    name, version = "brier_score", 1
    title, symbol, better = "Brier score", "Brier", "lower"

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        values = brier_score(ensemble.probabilities.mean(axis=0), ensemble.labels)
        return [mean_over_examples(self.name, values, better="lower")]
