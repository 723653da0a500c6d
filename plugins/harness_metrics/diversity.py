"""Diversity of the members' predictions. Each metric is 0 for identical members, and for a single one.

None has a direction: more diversity can cost more accuracy than it gains (Abe et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from harness import Metric, MetricValue
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble


def predictive_variance(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the variance over members (ddof 0) of the true class's probability, (examples,), in [0, 1/4].

    Probabilities are (members, examples, classes), labels int (examples,). Source: Abe et al. 2023; paper, figure 3b.
    """
    return probabilities[:, np.arange(len(labels)), labels].var(axis=0)


def jensen_shannon_divergence(probabilities: np.ndarray) -> np.ndarray:
    """Return the one-vs-all Jensen–Shannon divergence in nats, mean over members, (examples,), in [0, ln 2].

    For member m, q_m is the mean of the *other* members' probabilities, c_m = (p_m + q_m) / 2, and
    J_m = (KL(p_m ‖ c_m) + KL(q_m ‖ c_m)) / 2 = H(c_m) − (H(p_m) + H(q_m)) / 2. Probabilities are (members, examples, classes).
    Source: Abe et al. 2023; paper, figure 3a.
    """
    members = len(probabilities)
    if members == 1:
        return np.zeros(probabilities.shape[1])
    total = probabilities.sum(axis=0)
    divergence = np.zeros(probabilities.shape[1])
    for own in probabilities:  # one member at a time: temporary arrays are (examples, classes)
        others = np.maximum(total - own, 0.0) / (members - 1)  # rounding may give −1e-17 instead of 0
        divergence += _entropy((own + others) / 2) - (_entropy(own) + _entropy(others)) / 2
    return np.maximum(divergence / members, 0.0)


def disagreement(predictions: np.ndarray) -> np.ndarray:
    """Return the share of pairs of members that predict different classes, in percent, (examples,).

    Predictions are int (members, examples). Source: Fort, Hu and Lakshminarayanan 2019, without their normalization.
    """
    pairs = list(combinations(range(len(predictions)), 2))
    differ = np.zeros(predictions.shape[1])
    for i, j in pairs:
        differ += predictions[i] != predictions[j]
    return 100.0 * differ / max(len(pairs), 1)


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return −Σ_k p_k ln p_k over the last axis of (examples, classes), with 0 ln 0 = 0: (examples,)."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return -np.einsum("ek,ek->e", probabilities, logs)


class PredictiveVariance(Metric):
    """Variance over members of the probability of the true class, mean over examples."""

    name, version = "predictive_variance", 1
    title, symbol, better = "Predictive variance", "Var", ""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        return [mean_over_examples(self.name, predictive_variance(ensemble.probabilities, ensemble.labels))]


class JensenShannonDivergence(Metric):
    """Divergence of each member from the mean of the others, mean over members and examples, in nats."""

    name, version = "jensen_shannon_divergence", 1
    title, symbol, better = "Jensen–Shannon divergence", "JSD", ""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        return [mean_over_examples(self.name, jensen_shannon_divergence(ensemble.probabilities), "nats")]


class Disagreement(Metric):
    """Share of test examples on which two members predict different classes, mean over pairs, in percent."""

    name, version = "disagreement", 1
    title, symbol, better = "Disagreement", "Dis", ""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return one value."""
        refuse_non_finite(ensemble.logits)
        return [mean_over_examples(self.name, disagreement(ensemble.logits.argmax(axis=2)), "percent")]
