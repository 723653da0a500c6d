"""Test accuracy of an ensemble and of its members, in percent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble

Average = Literal["probabilities", "logits", "log_probabilities"]


def averaged_is_right(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 100.0 where the largest averaged output is that of the label, else 0.0: float64 (examples,).

    Outputs (members, examples, classes) are averaged over members in float64; labels are int64 (examples,). Among equal outputs
    the class with the lowest index is the prediction. Source: paper, section 2, f̃(x) = (1 / M) Σ_i f_θi(x).
    """
    return 100.0 * (outputs.mean(axis=0, dtype=np.float64).argmax(axis=1) == labels)


class EnsembleAccuracyOptions(Options):
    """The outputs that `ensemble_accuracy` averages."""

    average: Average = Field(
        "probabilities",
        description="what is averaged over members for the main value (the paper's formula averages f_θ and leaves open which "
        "output that is); the other two are reported beside it",
    )


class EnsembleAccuracy(Metric):
    """Test accuracy of the averaged members, in percent; the two averages that were not chosen are extra values."""

    name, version = "ensemble_accuracy", 1
    title, symbol, better = "Accuracy", "Acc", "higher"
    default = True
    Options = EnsembleAccuracyOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the accuracy for the chosen average first, then `ensemble_accuracy_<average>` for the other two."""
        refuse_non_finite(ensemble.logits)
        chosen: Average = self.options.average
        yield self._accuracy(ensemble, chosen, self.name)
        for other in get_args(Average):
            if other != chosen:
                yield self._accuracy(ensemble, other, f"{self.name}_{other}")

    def _accuracy(self, ensemble: EvaluatedEnsemble, average: Average, name: str) -> MetricValue:
        right = averaged_is_right(getattr(ensemble, average), ensemble.labels)
        return mean_over_examples(name, right, "percent", "higher")


class MeanMemberAccuracy(Metric):
    """Test accuracy of single members, in percent: the mean over members, the worst and the best."""

    name, version = "mean_member_accuracy", 1
    title, symbol, better = "Member accuracy", "Acc₁", "higher"
    default = True

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean, then the worst and the best member's accuracy.

        The standard error of the mean accounts for members sharing their test examples: it is over examples of the share of
        members that are right.
        """
        refuse_non_finite(ensemble.logits)
        right = 100.0 * ensemble.correct  # (members, examples)
        order = right.mean(axis=1).argsort(kind="stable")
        yield mean_over_examples(self.name, right.mean(axis=0), "percent", "higher")
        yield mean_over_examples("worst_member_accuracy", right[order[0]], "percent", "higher")
        yield mean_over_examples("best_member_accuracy", right[order[-1]], "percent", "higher")
