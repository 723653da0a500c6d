"""Calibration of the averaged probabilities, against torch and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from harness_metrics import BrierScore, ExpectedCalibrationError, NegativeLogLikelihood
from harness_metrics.calibration import expected_calibration_error

METRICS = (NegativeLogLikelihood, ExpectedCalibrationError, BrierScore)


def torch_average(ensemble):
    """Return the averaged probabilities, float64 (examples, classes), and the labels, int64 (examples,)."""
    probabilities = torch.as_tensor(ensemble.logits).double().softmax(-1).mean(0)
    return probabilities, torch.as_tensor(ensemble.labels)


def test_negative_log_likelihood_agrees_with_torch(random_toy, measure):
    """It equals torch's `nll_loss` of the logarithm of the averaged probabilities."""
    ensemble = random_toy(1, members=5, examples=200)
    probabilities, labels = torch_average(ensemble)
    expected = float(F.nll_loss(probabilities.log(), labels))
    assert measure(NegativeLogLikelihood, ensemble) == {"negative_log_likelihood": pytest.approx(expected, abs=1e-9)}


def test_negative_log_likelihood_of_impossible_labels_is_finite(toy, measure):
    """Where all probabilities of the label underflow, the value is the smallest gap of logits plus ln M."""
    ensemble = toy([[[1e4, -1e4]], [[1e4, -5e3]]], [1])
    assert measure(NegativeLogLikelihood, ensemble)["negative_log_likelihood"] == pytest.approx(1.5e4 + np.log(2))


@pytest.mark.parametrize("bins", [1, 2, 7, 15, 100])
def test_expected_calibration_error_agrees_with_torchmetrics(bins, random_toy, measure):
    """For confidences inside bins, it equals the l1 calibration error of torchmetrics."""
    ensemble = random_toy(2, members=3, examples=400)
    probabilities, labels = torch_average(ensemble)
    expected = float(multiclass_calibration_error(probabilities, labels, 4, n_bins=bins, norm="l1"))
    values = measure(ExpectedCalibrationError, ensemble, bins=bins)
    assert values["expected_calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_bins_of_a_reliability_diagram(random_toy, measure):
    """Each bin with examples has their number, mean confidence and accuracy in percent, as a loop over bins finds them."""
    ensemble = random_toy(2, members=3, examples=400)
    probabilities = ensemble.probabilities.mean(axis=0)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == ensemble.labels
    expected = {}
    for number in range(1, 11):
        inside = (confidence > (number - 1) / 10) & (confidence <= number / 10)
        if inside.any():
            expected[f"calibration_count/{number}"] = inside.sum()
            expected[f"calibration_confidence/{number}"] = 100 * confidence[inside].mean()
            expected[f"calibration_accuracy/{number}"] = 100 * right[inside].mean()
    values = measure(ExpectedCalibrationError, ensemble, bins=10)
    del values["expected_calibration_error"]
    assert values == pytest.approx(expected)
    assert sum(value for name, value in values.items() if "count" in name) == 400


def test_confidence_on_an_edge_belongs_to_the_bin_below():
    """With two bins (0, ½] and (½, 1], a right confidence of ½ and a wrong one of 0.4 are in one bin."""
    probabilities = np.array([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3]])
    assert expected_calibration_error(probabilities, np.array([0, 0]), bins=2) == pytest.approx(0.05)


def test_confidence_of_one_belongs_to_the_last_bin():
    """A confidence of exactly 1 is in the last bin, with 0.98 (torchmetrics has an extra bin for it)."""
    probabilities = np.array([[1.0, 0.0], [0.98, 0.02]])
    assert expected_calibration_error(probabilities, np.array([1, 0])) == pytest.approx(0.49)


def test_confident_and_wrong(toy, measure):
    """One example that is wrong with confidence 1 has calibration error 1 and Brier score 2."""
    ensemble = toy([[[1e4, -1e4]]], [1])
    assert measure(ExpectedCalibrationError, ensemble)["expected_calibration_error"] == 1
    assert measure(BrierScore, ensemble)["brier_score"] == 2


def test_brier_score_agrees_with_a_one_hot_reference(random_toy, measure):
    """It equals the mean squared distance between averaged probabilities and one-hot labels."""
    ensemble = random_toy(3, members=4, examples=100)
    probabilities, labels = torch_average(ensemble)
    expected = float((probabilities - F.one_hot(labels, 4)).square().sum(1).mean())
    assert measure(BrierScore, ensemble) == {"brier_score": pytest.approx(expected, abs=1e-12)}


def test_confident_and_right(toy, measure):
    """If all examples are right with confidence 1, all three metrics are 0."""
    ensemble = toy(np.array([[[1e4, -1e4, 0.0]] * 5] * 3), [0] * 5)
    assert [measure(metric, ensemble)[metric.name] for metric in METRICS] == pytest.approx([0, 0, 0], abs=1e-15)


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4), scale=st.sampled_from([0.1, 3.0, 1e4]))
def test_values_stay_in_their_ranges(seed, members, scale, random_toy, measure):
    """The likelihood is finite and at least 0, the calibration error in [0, 1], the Brier score in [0, 2]."""
    ensemble = random_toy(seed, members, examples=5, scale=scale)
    assert 0 <= measure(NegativeLogLikelihood, ensemble)["negative_log_likelihood"] < np.inf
    assert 0 <= measure(ExpectedCalibrationError, ensemble)["expected_calibration_error"] <= 1 + 1e-12
    assert 0 <= measure(BrierScore, ensemble)["brier_score"] <= 2 + 1e-12


@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_members_does_not_matter(seed, toy, random_toy, measure):
    """Permuted members give the same values up to rounding."""
    ensemble = random_toy(seed, members=4)
    permuted = toy(ensemble.logits[np.random.default_rng(seed).permutation(4)], ensemble.labels)
    for metric in METRICS:
        assert measure(metric, permuted) == pytest.approx(measure(metric, ensemble), abs=1e-12)


def test_units_and_directions(random_toy):
    """The likelihood is in nats, the others have no unit; lower is better for all."""
    values = [next(iter(metric().measure(random_toy(0)))) for metric in METRICS]
    assert [(value.unit, value.better) for value in values] == [("nats", "lower"), ("", "lower"), ("", "lower")]


def test_zero_bins():
    """The option is refused."""
    with pytest.raises(ValueError, match=r"bins\n.*greater than or equal to 1"):
        ExpectedCalibrationError.Options(bins=0)
