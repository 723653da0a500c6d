"""Accuracy of ensembles and members, against torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy

from harness_metrics import EnsembleAccuracy, MeanMemberAccuracy

AVERAGES = ("probabilities", "logits", "log_probabilities")


def reference(outputs, labels):
    """Return the micro accuracy of torchmetrics, in percent, of outputs (examples, classes)."""
    outputs, labels = torch.as_tensor(outputs), torch.as_tensor(labels)
    return 100 * float(multiclass_accuracy(outputs, labels, outputs.shape[1], average="micro"))


@pytest.mark.parametrize("average", AVERAGES)
def test_average_agrees_with_torchmetrics(average, random_toy, measure):
    """Each average gives the accuracy that torchmetrics computes from outputs averaged by torch."""
    ensemble = random_toy(1, members=4, examples=300)
    logits = torch.as_tensor(ensemble.logits).double()
    outputs = {"probabilities": logits.softmax(-1), "logits": logits, "log_probabilities": logits.log_softmax(-1)}
    expected = reference(outputs[average].mean(0), ensemble.labels)
    values = measure(EnsembleAccuracy, ensemble, average=average)
    assert values["ensemble_accuracy"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("average", AVERAGES)
def test_averages_not_chosen_are_extra_values(average, random_toy, measure):
    """The main value is that of the chosen average; the other two follow, each equal to the value if it is chosen."""
    ensemble = random_toy(2, examples=200)
    values = measure(EnsembleAccuracy, ensemble, average=average)
    others = [other for other in AVERAGES if other != average]
    assert list(values) == ["ensemble_accuracy", *(f"ensemble_accuracy_{other}" for other in others)]
    for other in others:
        chosen = measure(EnsembleAccuracy, ensemble, average=other)
        assert values[f"ensemble_accuracy_{other}"] == chosen["ensemble_accuracy"]


def test_averages_can_differ(toy, measure):
    """One confident member outvotes two others in logits, but not in probabilities."""
    ensemble = toy([[[9.0, 0.0]], [[0.0, 1.0]], [[0.0, 3.0]]], [0])
    assert measure(EnsembleAccuracy, ensemble)["ensemble_accuracy"] == 0
    assert measure(EnsembleAccuracy, ensemble)["ensemble_accuracy_logits"] == 100


def test_logits_and_log_probabilities_give_the_same_classes(random_toy, measure):
    """A log-softmax shifts all logits of an example equally, so the two averages predict the same class."""
    values = measure(EnsembleAccuracy, random_toy(3, examples=500))
    assert values["ensemble_accuracy_logits"] == values["ensemble_accuracy_log_probabilities"]


def test_standard_error_is_binomial(random_toy):
    """A share p of n examples has the standard error √(p (1 − p) / (n − 1))."""
    value = next(iter(EnsembleAccuracy().measure(random_toy(4, examples=50))))
    share = value.value / 100
    assert value.standard_error == pytest.approx(100 * np.sqrt(share * (1 - share) / 49))
    assert (value.unit, value.better) == ("percent", "higher")


def test_member_accuracies_agree_with_torchmetrics(random_toy, measure):
    """Mean, worst and best are those of torchmetrics' accuracies of the members."""
    ensemble = random_toy(5, members=5, examples=150)
    members = [reference(logits, ensemble.labels) for logits in ensemble.logits]
    values = measure(MeanMemberAccuracy, ensemble)
    assert list(values) == ["mean_member_accuracy", "worst_member_accuracy", "best_member_accuracy"]
    assert list(values.values()) == pytest.approx([np.mean(members), min(members), max(members)], abs=1e-4)


def test_standard_error_of_members_that_share_examples(toy):
    """The standard error of identical members is that of one of them."""
    logits = np.random.default_rng(0).standard_normal((1, 40, 3))
    labels = np.zeros(40)
    single = next(iter(MeanMemberAccuracy().measure(toy(logits, labels))))
    copies = next(iter(MeanMemberAccuracy().measure(toy(logits.repeat(6, axis=0), labels))))
    assert copies.standard_error == pytest.approx(single.standard_error)


def test_single_member_is_its_own_ensemble(random_toy, measure):
    """With M = 1 all accuracies are the member's."""
    ensemble = random_toy(6, members=1)
    expected = pytest.approx(100 * ensemble.correct[0].mean())
    for metric in (EnsembleAccuracy, MeanMemberAccuracy):
        assert list(measure(metric, ensemble).values()) == [expected] * 3


@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_members_does_not_matter(seed, toy, random_toy, measure):
    """Permuted members give the same accuracies."""
    ensemble = random_toy(seed, members=4)
    order = np.random.default_rng(seed).permutation(4)
    permuted = toy(ensemble.logits[order], ensemble.labels)
    for metric in (EnsembleAccuracy, MeanMemberAccuracy):
        assert measure(metric, permuted) == pytest.approx(measure(metric, ensemble))


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4), examples=st.integers(1, 5))
def test_accuracies_are_percentages(seed, members, examples, random_toy, measure):
    """Values are in [0, 100], and worst ≤ mean ≤ best."""
    ensemble = random_toy(seed, members, examples)
    values = measure(MeanMemberAccuracy, ensemble)
    assert 0 <= values["worst_member_accuracy"] <= values["mean_member_accuracy"] + 1e-9
    assert values["mean_member_accuracy"] <= values["best_member_accuracy"] + 1e-9 <= 100 + 1e-9
    assert all(0 <= value <= 100 for value in measure(EnsembleAccuracy, ensemble).values())


def test_unknown_average_is_refused():
    """The message lists the averages."""
    with pytest.raises(ValueError, match="'probabilities', 'logits' or 'log_probabilities'"):
        EnsembleAccuracy.Options(average="votes")
