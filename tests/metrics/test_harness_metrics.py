import subprocess
import sys

import numpy as np
import pluggy
import pytest

import harness_metrics
from harness.api.ensemble import EvaluatedEnsemble
from harness.registry import hookspecs

REGISTERED: list[type] = []
harness_metrics.register_metrics(REGISTERED.append)


def test_hook_registers_every_metric():
    """Through pluggy, the names of the design and the three that go beyond it come out."""
    manager = pluggy.PluginManager("harness")
    manager.add_hookspecs(hookspecs)
    manager.register(harness_metrics)
    manager.check_pending()
    found = []
    manager.hook.register_metrics(register=found.append)
    assert sorted(metric.name for metric in found) == [
        "brier_score",
        "disagreement",
        "ensemble_accuracy",
        "expected_calibration_error",
        "jensen_shannon_divergence",
        "joint_connectivity",
        "mean_member_accuracy",
        "negative_log_likelihood",
        "pairwise_connectivity",
        "predictive_variance",
        "worst_connectivity",
    ]


def test_import_costs_no_heavy_package():
    """Listing the metrics imports neither torch nor scipy, scikit-learn or pandas."""
    heavy = "{'torch', 'scipy', 'sklearn', 'pandas'} & set(sys.modules)"
    code = f"import sys, harness_metrics; found = {heavy}; sys.exit(f'imported {{found}}' if found else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_member_is_named(metric, bad, random_toy):
    """A logit that is not finite is an error that names the member and the example, never a NaN row."""
    ensemble = random_toy(0, members=3, examples=8)
    ensemble.logits[1, 5:, 2] = bad
    with pytest.raises(ValueError, match=r"member 1: logits that are not finite on 3 of 8 examples \(the first is example 5\)"):
        list(metric().measure(ensemble))


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_smallest_ensembles_and_saturated_logits_give_finite_values(metric, members, scale, random_toy):
    """One example, one or two members, logits of ±1e4: every value is a finite number under a name of its own."""
    values = list(metric().measure(random_toy(1, members=members, examples=1, scale=scale)))
    assert values[0].metric == metric.name
    assert len({value.metric for value in values}) == len(values)
    assert all(np.isfinite(value.value) and value.unit in ("percent", "nats", "") for value in values)


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_options_are_described(metric):
    """Every option says what it does."""
    assert all(field.description for field in metric.Options.model_fields.values())


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_measuring_changes_nothing(metric, random_toy):
    """The ensemble's arrays are read, never written: metrics share them."""
    ensemble = random_toy(2, members=3, examples=10)
    arrays = (ensemble.logits, ensemble.labels, ensemble.probabilities, ensemble.log_probabilities, ensemble.correct)
    for array in arrays:
        array.flags.writeable = False
    list(metric().measure(ensemble))


class HalfRight:
    """Stands for the network between the members: right on every second example, wherever it is."""

    has_running_statistics = False

    def correct(self, point, labels, batchnorm="recompute"):
        return np.arange(len(labels)) % 2 == 0


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_harness_own_ensemble_is_measured(metric, random_toy):
    """The ensemble that the harness hands out has all that a metric reads, and gives what the toy of equal logits gives."""
    toy = random_toy(3, members=3, examples=40)
    toy.correct_at = lambda points, batchnorm: np.stack([HalfRight().correct(point, toy.labels) for point in points])
    ensemble = EvaluatedEnsemble(toy.logits, toy.labels, 0, HalfRight)
    toy.uniform = ensemble.uniform
    expected = {value.metric: value.value for value in metric().measure(toy)}
    assert {value.metric: value.value for value in metric().measure(ensemble)} == pytest.approx(expected, abs=1e-12)


def test_draws_of_fewer_are_the_first_of_more(random_toy):
    """worst_connectivity starts from joint_connectivity's first draws, whatever their numbers."""
    ensemble = EvaluatedEnsemble(random_toy(0).logits, random_toy(0).labels, 0, HalfRight)
    few, many = (ensemble.uniform("joint_connectivity", draws, 3) for draws in (5, 50))
    np.testing.assert_array_equal(few, many[:5])
