"""Images of other classes, told from the test images by the confidence max_k p̄_k (Hendrycks and Gimpel 2017).

The test images are *in*, the images of the evaluation set are *out*. The main value is the mean over the set's splits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options, PluginChoice
from harness_metrics.finite import finite_predictions_on

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble, Predictions


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the share of pairs in which the test image has the higher confidence, ties counted half, in [0, 1].

    Confidences are (test images,) and (other images,). It is the area under the ROC curve, whichever class is positive.
    """
    return float(_placements(inside, outside).mean())


def auroc_standard_error(inside: np.ndarray, outside: np.ndarray) -> float | None:
    """Return the standard error of `auroc` over images of both kinds; None for a single image. Source: DeLong et al. 1988."""
    if min(len(inside), len(outside)) < 2:
        return None
    of_inside = _placements(inside, outside)
    of_outside = _placements(-outside, -inside)
    return float(np.sqrt(of_inside.var(ddof=1) / len(inside) + of_outside.var(ddof=1) / len(outside)))


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return Σ_t (R_t − R_{t−1}) P_t over the thresholds t of a score, in [0, 1]: the area under precision and recall.

    Scores are (positives,) and (negatives,), higher for positives. Equal scores are one threshold.
    """
    thresholds = np.unique(positive)[::-1]  # recall grows nowhere else
    hits = len(positive) - np.sort(positive).searchsorted(thresholds, side="left")
    false = len(negative) - np.sort(negative).searchsorted(thresholds, side="left")
    precision = hits / (hits + false)
    steps = np.diff(hits, prepend=0) / len(positive)
    return float((steps * precision).sum())


def false_positive_rate(inside: np.ndarray, outside: np.ndarray, recall: float = 0.95) -> float:
    """Return the share of other images that a threshold accepts which accepts `recall` of the test images, in [0, 1].

    The threshold is the highest one that accepts at least that share. Source: Liang, Li and Srikant 2018.
    """
    accepted = int(np.ceil(recall * len(inside) - 1e-9))
    threshold = np.sort(inside)[len(inside) - accepted]
    return float((outside >= threshold).mean())


def _placements(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return, for each value of `inside`, the share of `outside` below it, ties counted half: float64 (values,)."""
    ordered = np.sort(outside)
    below = ordered.searchsorted(inside, side="left")
    not_above = ordered.searchsorted(inside, side="right")
    return (below + not_above) / (2 * len(outside))


class OODOptions(Options):
    """The evaluation set of a metric of images of other classes."""

    splits: PluginChoice = Field(
        "svhn",
        description="the evaluation set, whose images are of none of the data set's classes; its splits are averaged",
        json_schema_extra={"plugin": "evaluation_set"},
    )


class OODMetric(Metric):
    """A metric of the confidences on test images and on images of other classes, in percent."""

    Options = OODOptions
    direction: ClassVar[Literal["higher", "lower"]] = "higher"

    def check(self, members: int) -> None:
        """Raise `ValueError` for an evaluation set with images of the data set's classes."""
        chosen = self.chosen["splits"]
        if not chosen.out_of_distribution:
            raise ValueError(
                f"splits: '{chosen.full_name}' has images of the data set's classes; shift_accuracy and the other metrics of "
                "shift measure those"
            )

    @abstractmethod
    def value(self, inside: np.ndarray, outside: np.ndarray) -> tuple[float, float | None]:
        """Return the value and its standard error, as fractions, from the confidences on both kinds of images."""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean over all splits, then the value of each split, `<metric>/<split>`."""
        inside = confidences(ensemble)
        found = {}
        for name, split in finite_predictions_on(ensemble, self.chosen["splits"]):
            found[name] = self.value(inside, confidences(split))
        mean = float(np.mean([value for value, _ in found.values()]))
        error = next(iter(found.values()))[1] if len(found) == 1 else None
        yield self._percent(self.name, mean, error)
        for name, (value, own_error) in found.items():
            yield self._percent(f"{self.name}/{name}", value, own_error)

    def _percent(self, name: str, value: float, error: float | None) -> MetricValue:
        in_percent = None if error is None else 100 * error
        return MetricValue(name, 100 * value, in_percent, "percent", self.direction)


def confidences(predictions: Predictions) -> np.ndarray:
    """Return the largest averaged probability of each image, (examples,), in (0, 1]."""
    return predictions.probabilities.mean(axis=0).max(axis=1)


class OODAuroc(OODMetric):
    """Area under the ROC curve of telling test images from images of other classes by confidence, in percent."""

    name, version = "ood_auroc", 1
    title, symbol, better = "OOD AUROC", "AUROC", "higher"

    def value(self, inside: np.ndarray, outside: np.ndarray) -> tuple[float, float | None]:
        """Return the area, and its standard error over images of both kinds."""
        return auroc(inside, outside), auroc_standard_error(inside, outside)


class OODAupr(OODMetric):
    """Area under precision and recall of finding images of other classes, which are the positives, in percent."""

    name, version = "ood_aupr", 1
    title, symbol, better = "OOD AUPR", "AUPR", "higher"

    def value(self, inside: np.ndarray, outside: np.ndarray) -> tuple[float, float | None]:
        """Return the average precision; images of other classes are positive, and a lower confidence is a higher score."""
        return average_precision(-outside, -inside), None


class OODFpr95(OODMetric):
    """Share of images of other classes that are accepted where 95 % of the test images are, in percent."""

    name, version = "ood_fpr95", 1
    title, symbol, better = "OOD FPR95", "FPR95", "lower"
    direction = "lower"

    def value(self, inside: np.ndarray, outside: np.ndarray) -> tuple[float, float | None]:
        """Return the share at the highest threshold that accepts 95 % of the test images."""
        return false_positive_rate(inside, outside), None
