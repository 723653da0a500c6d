"""How often an ensemble, and its members alone, are right on the test set. In percent."""

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
    """Return whether the averaged output's largest class is the label, 100.0 or 0.0, shape (examples,).

    Outputs (members, examples, classes) are averaged in float64 over members; labels (examples,). Of equal outputs the lowest
    class wins. Source: paper, section 2, f̃(x) = (1 / M) Σ_i f_θi(x).
    """
    return 100.0 * (outputs.mean(axis=0, dtype=np.float64).argmax(axis=1) == labels)


class EnsembleAccuracyOptions(Options):
    """What `ensemble_accuracy` averages."""

    average: Average = Field(
        "probabilities",
        description="what is averaged over members for the main value (the paper's formula averages f_θ and leaves open which "
        "output that is); the other two are reported beside it",
    )


class EnsembleAccuracy(Metric):
    """Test accuracy of the averaged members, in percent; the two ways of averaging not chosen are extra values."""

    name, version = "ensemble_accuracy", 1
    default = True
    Options = EnsembleAccuracyOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the accuracy for the chosen average first, then `ensemble_accuracy_<average>` for the other two."""
        refuse_non_finite(ensemble.logits)
        chosen: Average = self.options.average
        for average in (chosen, *(other for other in get_args(Average) if other != chosen)):
            right = averaged_is_right(getattr(ensemble, average), ensemble.labels)
            name = self.name if average == chosen else f"{self.name}_{average}"
            yield mean_over_examples(name, right, "percent", "higher")


class MeanMemberAccuracy(Metric):
    """Test accuracy of a single member, in percent: mean over members, and the worst and the best of them."""

    name, version = "mean_member_accuracy", 1
    default = True

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean (its standard error knows that members see the same examples), the worst and the best member's."""
        refuse_non_finite(ensemble.logits)
        right = 100.0 * ensemble.correct  # (members, examples)
        order = right.mean(axis=1).argsort(kind="stable")
        yield mean_over_examples(self.name, right.mean(axis=0), "percent", "higher")
        yield mean_over_examples("worst_member_accuracy", right[order[0]], "percent", "higher")
        yield mean_over_examples("best_member_accuracy", right[order[-1]], "percent", "higher")
