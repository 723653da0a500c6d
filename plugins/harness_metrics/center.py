"""The accuracy of the network in the middle of an ensemble's members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from harness import MetricValue, Options, PluginChoice
from harness_metrics.connectivity import CorrectedMetric, correction_field, right_at
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble


class CenterAccuracyOptions(Options):
    """Correction of `center_accuracy`."""

    correction: PluginChoice | None = correction_field()


class CenterAccuracy(CorrectedMetric):
    """Accuracy of the one network whose weights are the mean of the members', in percent."""

    name, version = "center_accuracy", 1
    title, symbol, better = "Accuracy at the center", "center", "higher"
    Options = CenterAccuracyOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the accuracy at λ = 1/M, with its standard error over examples."""
        refuse_non_finite(ensemble.logits)
        center = np.full((1, ensemble.size), 1 / ensemble.size)
        right = right_at(ensemble, center, self.options.correction)
        yield mean_over_examples(self.name, 100.0 * right[0], "percent", "higher")
