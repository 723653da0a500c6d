"""Proper scores and calibration of the averaged probabilities, p̄ = (1 / M) Σ_m p_m. Lower is better for each."""

from __future__ import annotations

from collections.abc import Iterable
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


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return Σ_b (n_b / n) |accuracy_b − confidence_b| in [0, 1], over bins ((b − 1) / B, b / B] of the confidence.

    The confidence is the largest of an example's probabilities (examples, classes). Source: Guo et al. 2017, equation 3.
    The bins of torchmetrics are closed on the left: the two differ only if a confidence is on an edge of a bin, such as
    exactly 1.
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    edges = np.arange(1, bins) / bins  # inner edges only: a confidence rounded to above 1 is in the last bin
    totals = np.bincount(edges.searchsorted(confidence, side="left"), weights=gap, minlength=bins)
    return float(np.abs(totals).sum() / len(labels))


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
        """Return one value; it has no standard error, since it is not a mean over examples."""
        refuse_non_finite(ensemble.logits)
        value = expected_calibration_error(ensemble.probabilities.mean(axis=0), ensemble.labels, self.options.bins)
        return [MetricValue(self.name, value, better="lower")]


class BrierScore(Metric):
    """Squared error of the averaged probabilities, summed over classes, in [0, 2]."""

    name, version = "brier_score", 1
    title, symbol, better = "Brier score", "Brier", "lower"

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        values = brier_score(ensemble.probabilities.mean(axis=0), ensemble.labels)
        return [mean_over_examples(self.name, values, better="lower")]
