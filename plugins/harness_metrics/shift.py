"""Accuracy, likelihood and calibration on the splits of an evaluation set: test images in other forms, such as corrupted ones.

The main value is the mean over the splits, unnormalized: all of them count alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options, PluginChoice, statistics
from harness_metrics.accuracy import averaged_is_right
from harness_metrics.calibration import expected_calibration_error, negative_log_likelihood
from harness_metrics.finite import finite_predictions_on

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble, Predictions


class ShiftOptions(Options):
    """The evaluation set of a metric under shift."""

    splits: PluginChoice = Field(
        "c_like",
        description="the evaluation set, a registered name with its options or without; all of its splits are averaged",
        json_schema_extra={"plugin": "evaluation_set"},
    )


class ShiftMetric(Metric):
    """A metric of each split of an evaluation set whose images are of the data set's classes."""

    Options = ShiftOptions

    def check(self, members: int) -> None:
        """Raise `ValueError` for an evaluation set with images of other classes."""
        chosen = self.chosen["splits"]
        if chosen.out_of_distribution:
            raise ValueError(
                f"splits: '{chosen.full_name}' has images of other classes, which have no labels; ood_auroc, ood_aupr and "
                "ood_fpr95 measure those"
            )


class MeanUnderShift(ShiftMetric):
    """A metric that is a mean over the images of each split."""

    unit: ClassVar[Literal["percent", "nats"]]
    direction: ClassVar[Literal["higher", "lower"]]

    @abstractmethod
    def contributions(self, split: Predictions) -> np.ndarray:
        """Return the contribution of each image of a split, float64 (examples,)."""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean over all splits, then that of each split, `<metric>/<split>`."""
        names, values = [], []
        for name, split in finite_predictions_on(ensemble, self.chosen["splits"]):
            names.append(name)
            values.append(self.contributions(split))
        yield self._mean(values, len(ensemble.labels))
        for name, contributions in zip(names, values, strict=True):
            error = statistics.standard_error(contributions)
            yield MetricValue(f"{self.name}/{name}", float(contributions.mean()), error, self.unit, self.direction)

    def _mean(self, values: Sequence[np.ndarray], images: int) -> MetricValue:
        """Return the mean over splits. If every split has all test images in their order, an image has one contribution."""
        mean = float(np.mean([contributions.mean() for contributions in values]))
        if self.chosen["splits"].paired and all(len(contributions) == images for contributions in values):
            examples = np.mean(values, axis=0)
            error = statistics.standard_error(examples)
            return MetricValue(self.name, mean, error, self.unit, self.direction, examples)
        return MetricValue(self.name, mean, _independent_error(values), self.unit, self.direction)


def _independent_error(values: Sequence[np.ndarray]) -> float | None:
    """Return the standard error of the mean of the means of independent samples; None if one is of a single image."""
    errors = [statistics.standard_error(contributions) for contributions in values]
    squares = [error**2 for error in errors if error is not None]
    if len(squares) < len(values):
        return None
    return float(np.sqrt(sum(squares))) / len(values)


class ShiftAccuracy(MeanUnderShift):
    """Accuracy of the averaged probabilities on the splits of an evaluation set, in percent."""

    name, version = "shift_accuracy", 1
    title, symbol, better = "Accuracy under shift", "Acc (shift)", "higher"
    unit, direction = "percent", "higher"

    def contributions(self, split: Predictions) -> np.ndarray:
        """Return 100 where the averaged probabilities are right, else 0."""
        return averaged_is_right(split.probabilities, split.labels)

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the accuracies, the mean error after the main one: 100 minus the accuracy, unnormalized."""
        accuracy, *of_splits = super().measure(ensemble)
        yield accuracy
        yield MetricValue("shift_mean_error", 100 - accuracy.value, accuracy.standard_error, "percent", "lower")
        yield from of_splits


class ShiftMemberAccuracy(MeanUnderShift):
    """Accuracy of single members on the splits of an evaluation set, in percent: the mean over members."""

    name, version = "shift_member_accuracy", 1
    title, symbol, better = "Member accuracy under shift", "Acc₁ (shift)", "higher"
    unit, direction = "percent", "higher"

    def contributions(self, split: Predictions) -> np.ndarray:
        """Return the share of members that are right, in percent."""
        return 100.0 * split.correct.mean(axis=0)


class ShiftLikelihood(MeanUnderShift):
    """Negative log-likelihood of the averaged probabilities on the splits of an evaluation set, in nats."""

    name, version = "shift_negative_log_likelihood", 1
    title, symbol, better = "Log-likelihood loss under shift", "NLL (shift)", "lower"
    unit, direction = "nats", "lower"

    def contributions(self, split: Predictions) -> np.ndarray:
        """Return −ln p̄ of the label."""
        return negative_log_likelihood(split.log_probabilities, split.labels)


class ShiftCalibrationErrorOptions(ShiftOptions):
    """The evaluation set, and how confidences are binned."""

    bins: int = Field(15, ge=1, le=10_000, description="number of bins of equal width, closed on the right")


class ShiftCalibrationError(ShiftMetric):
    """Expected calibration error on each split of an evaluation set, in [0, 1]: the mean over splits."""

    name, version = "shift_calibration_error", 1
    title, symbol, better = "Calibration error under shift", "ECE (shift)", "lower"
    Options = ShiftCalibrationErrorOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean over splits, then the error of each split, `<metric>/<split>`."""
        errors = {}
        for name, split in finite_predictions_on(ensemble, self.chosen["splits"]):
            errors[name] = expected_calibration_error(split.probabilities.mean(axis=0), split.labels, self.options.bins)
        yield MetricValue(self.name, float(np.mean(list(errors.values()))), better="lower")
        for name, error in errors.items():
            yield MetricValue(f"{self.name}/{name}", error, better="lower")
