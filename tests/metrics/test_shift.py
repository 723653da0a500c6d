"""Metrics on the splits of an evaluation set: means over splits, and images of other classes against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from harness import Predictions
from harness_metrics.calibration import expected_calibration_error
from harness_metrics.ood import (
    OODAupr,
    OODAuroc,
    OODFpr95,
    auroc,
    auroc_standard_error,
    average_precision,
    false_positive_rate,
)
from harness_metrics.shift import ShiftAccuracy, ShiftCalibrationError, ShiftLikelihood, ShiftMemberAccuracy
from metrics.made_metrics import made


def splits_of(ensemble, out_of_distribution=False):
    """Return the predictions on the splits that the toy ensemble has for every evaluation set."""

    class Chosen:
        pass

    chosen = Chosen()
    chosen.out_of_distribution = out_of_distribution
    return dict(ensemble.predictions_on(chosen))


def test_means_over_splits(random_toy, measure):
    """The main value is the mean over splits; each split's value has the split's name."""
    ensemble = random_toy(0, members=3, examples=50)
    splits = splits_of(ensemble)
    rows, labels = np.arange(50), ensemble.labels
    expected = {ShiftAccuracy: {}, ShiftMemberAccuracy: {}, ShiftLikelihood: {}, ShiftCalibrationError: {}}
    for name, split in splits.items():
        pooled = split.probabilities.mean(axis=0)
        expected[ShiftAccuracy][name] = 100 * np.mean(pooled.argmax(axis=1) == labels)
        expected[ShiftMemberAccuracy][name] = 100 * np.mean(split.logits.argmax(axis=2) == labels)
        expected[ShiftLikelihood][name] = -np.log(pooled[rows, labels]).mean()
        expected[ShiftCalibrationError][name] = expected_calibration_error(pooled, labels, 15)
    for metric, by_split in expected.items():
        values = measure(metric, ensemble)
        assert values.pop(metric.name) == pytest.approx(np.mean(list(by_split.values())))
        if metric is ShiftAccuracy:
            assert values.pop("shift_mean_error") == pytest.approx(100 - np.mean(list(by_split.values())))
        assert values == {f"{metric.name}/{name}": pytest.approx(value) for name, value in by_split.items()}


@pytest.mark.parametrize(
    "metric", [ShiftAccuracy, ShiftMemberAccuracy, ShiftLikelihood, ShiftCalibrationError, OODAuroc, OODAupr, OODFpr95]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_member_that_is_finite_on_test_images_alone(metric, bad, random_toy, measure):
    """Its predictions on other images are no answer: the message names the member, the split and the image."""

    class Overflowing(type(random_toy(0))):
        def predictions_on(self, evaluation_set):
            for name, split in super().predictions_on(evaluation_set):
                logits = split.logits.copy()
                if name == "strong":
                    logits[1, 3, 0] = bad
                yield name, Predictions(logits, split.labels)

    one = random_toy(0, members=2, examples=9)
    expected = r"^member 1: logits that are not finite on 1 of 9 examples of split 'strong' \(the first is example 3\); the "
    with pytest.raises(ValueError, match=expected):
        measure(metric, Overflowing(one.logits, one.labels))


def test_contributions_of_paired_splits(random_toy):
    """An image's contribution is its mean over splits, and the standard error is over images."""
    ensemble = random_toy(1, members=2, examples=40)
    main = next(iter(made(ShiftAccuracy).measure(ensemble)))
    right = [split.probabilities.mean(axis=0).argmax(axis=1) == split.labels for split in splits_of(ensemble).values()]
    np.testing.assert_allclose(main.examples, 100 * np.mean(right, axis=0))
    assert main.standard_error == pytest.approx(main.examples.std(ddof=1) / np.sqrt(40))


def test_evaluation_sets_of_the_other_kind_are_refused():
    """A metric of shift needs labels, and one of foreign images needs images without them."""
    with pytest.raises(ValueError, match=r"^splits: 'svhn' has images of other classes, which have no labels; ood_auroc, "):
        made(ShiftAccuracy, splits="svhn").check(3)
    with pytest.raises(ValueError, match=r"^splits: 'c_like' has images of the data set's classes; shift_accuracy and "):
        made(OODAuroc, splits="c_like").check(3)


@pytest.mark.parametrize("seed", range(4))
def test_foreign_images_agree_with_scikit_learn(seed):
    """The three values, with ties, are those of sklearn.metrics; a foreign image is positive for the precision."""
    generator = np.random.default_rng(seed)
    inside = generator.integers(3, 12, 60) / 12
    outside = generator.integers(0, 10, 45) / 12
    scores = np.concatenate([inside, outside])
    is_inside = np.repeat([1, 0], [60, 45])
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_inside, scores))
    assert average_precision(-outside, -inside) == pytest.approx(average_precision_score(1 - is_inside, -scores))
    false_rates, true_rates, _ = roc_curve(is_inside, scores, drop_intermediate=False)
    assert false_positive_rate(inside, outside) == pytest.approx(false_rates[true_rates >= 0.95].min())


def test_standard_error_of_the_area_by_simulation():
    """It is the deviation of the area over samples of images, up to a tenth."""
    generator = np.random.default_rng(0)
    areas, errors = [], []
    for _ in range(400):
        inside, outside = generator.normal(1, 1, 80), generator.normal(0, 1, 50)
        areas.append(auroc(inside, outside))
        errors.append(auroc_standard_error(inside, outside))
    assert np.mean(errors) == pytest.approx(np.std(areas, ddof=1), rel=0.1)
    assert auroc_standard_error(np.array([1.0]), np.array([0.0, 0.5])) is None


def test_foreign_images_of_an_ensemble(random_toy, measure):
    """The confidence is the largest averaged probability; the main value is the mean over splits."""
    ensemble = random_toy(3, members=3, examples=30)
    inside = ensemble.probabilities.mean(axis=0).max(axis=1)
    expected = {}
    for name, split in splits_of(ensemble, True).items():
        outside = split.probabilities.mean(axis=0).max(axis=1)
        expected[f"ood_auroc/{name}"] = 100 * auroc(inside, outside)
    values = measure(OODAuroc, ensemble)
    assert values.pop("ood_auroc") == pytest.approx(np.mean(list(expected.values())))
    assert values == pytest.approx(expected)


def test_confidences_that_tell_nothing_and_everything():
    """Equal confidences: one half, the share of foreign images, and 1. Separated ones: 1, 1 and 0."""
    same = np.full(20, 0.5)
    assert auroc(same, same[:5]) == 0.5
    assert average_precision(-same[:5], -same) == pytest.approx(0.2)
    assert false_positive_rate(same, same[:5]) == 1.0
    low = np.full(5, 0.1)
    assert (auroc(same, low), average_precision(-low, -same), false_positive_rate(same, low)) == (1.0, 1.0, 0.0)


def test_units_and_directions(random_toy):
    """Shares are percent; lower is better for the false positives."""
    found = [next(iter(made(metric).measure(random_toy(0)))) for metric in (OODAuroc, OODAupr, OODFpr95)]
    assert [(value.unit, value.better) for value in found] == [
        ("percent", "higher"),
        ("percent", "higher"),
        ("percent", "lower"),
    ]
