"""The accuracy at the center, against closed forms."""

from __future__ import annotations

import pytest

from harness_metrics.center import CenterAccuracy


def quadratic(points):
    """Accuracy 0.9 at the members and 0.9 − 0.6 (1 − 1/M) at the center."""
    return 0.9 - 0.6 * (1 - (points**2).sum(axis=1))


@pytest.mark.parametrize("members", [2, 3, 5])
def test_accuracy_at_the_center(members, toy, measure):
    """It is that of the network at λ = 1/M, the only one that is evaluated, with the binomial standard error."""
    ensemble = toy.of_accuracy(quadratic, members, examples=1000)
    (value,) = CenterAccuracy().measure(ensemble)
    assert value.value == pytest.approx(90 - 60 * (1 - 1 / members), abs=0.1)
    share = value.value / 100
    assert value.standard_error == pytest.approx(100 * (share * (1 - share) / 999) ** 0.5)
    assert len(ensemble.evaluated) == 1


def test_one_member(toy, measure):
    """It is the member's accuracy; no network is evaluated."""
    ensemble = toy.of_accuracy(quadratic, 1)
    assert measure(CenterAccuracy, ensemble) == {"center_accuracy": pytest.approx(90)}
    assert len(ensemble.evaluated) == 0


def test_correction_is_passed_on(toy, measure):
    """The network is corrected as the option says."""
    ensemble = toy.of_accuracy(quadratic, 3)
    measure(CenterAccuracy, ensemble, correction="repair")
    assert ensemble.corrections == ["repair"]
