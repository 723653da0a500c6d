"""All metrics of the plugin: registration, imports, options, and contracts that each of them keeps."""

import subprocess
import sys

import numpy as np
import pluggy
import pytest

import harness_metrics
from harness.api.ensemble import EvaluatedEnsemble
from harness.registry import hookspecs
from harness_metrics.temperature import CrossFittedMetric
from metrics.made_metrics import made

REGISTERED: list[type] = []
harness_metrics.register_metrics(REGISTERED.append)
OF_PREDICTIONS = [metric for metric in REGISTERED if metric.name not in ("derivation_cost", "weight_distance")]


def test_hook_registers_every_metric():
    """The hook registers all metrics of docs/metrics.md."""
    manager = pluggy.PluginManager("harness")
    manager.add_hookspecs(hookspecs)
    manager.register(harness_metrics)
    manager.check_pending()
    registered = []
    manager.hook.register_metrics(register=registered.append)
    assert sorted(metric.name for metric in registered) == [
        "adaptive_calibration_error",
        "area_under_risk_coverage",
        "brier_score",
        "calibrated_negative_log_likelihood",
        "center_accuracy",
        "derivation_cost",
        "disagreement",
        "ensemble_accuracy",
        "expected_calibration_error",
        "jensen_shannon_divergence",
        "joint_connectivity",
        "loss_plane",
        "mean_member_accuracy",
        "negative_log_likelihood",
        "ood_aupr",
        "ood_auroc",
        "ood_fpr95",
        "pairwise_connectivity",
        "predictive_variance",
        "shift_accuracy",
        "shift_calibration_error",
        "shift_member_accuracy",
        "shift_negative_log_likelihood",
        "simplex_map",
        "temperature",
        "weight_distance",
        "worst_connectivity",
    ]


def test_import_of_heavy_packages():
    """Importing the plugin imports neither torch nor SciPy, scikit-learn or pandas."""
    heavy = "{'torch', 'scipy', 'sklearn', 'pandas'} & set(sys.modules)"
    code = f"import sys, harness_metrics; found = {heavy}; sys.exit(f'imported {{found}}' if found else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("metric", OF_PREDICTIONS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_member(metric, bad, random_toy):
    """A logit that is not finite raises an error that names the member and the example."""
    ensemble = random_toy(0, members=3, examples=8)
    ensemble.logits[1, 5:, 2] = bad
    expected = r"member 1: logits that are not finite on 3 of 8 examples \(the first is example 5\)"
    with pytest.raises(ValueError, match=expected):
        list(made(metric).measure(ensemble))


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_smallest_ensembles_and_saturated_logits_give_finite_values(metric, members, scale, random_toy):
    """One example, one or two members and logits of ±1e4 give finite values with different names; a temperature needs two."""
    examples = 6 if issubclass(metric, CrossFittedMetric) else 1
    values = list(made(metric).measure(random_toy(1, members=members, examples=examples, scale=scale)))
    assert values[0].metric == metric.name
    assert len({value.metric for value in values}) == len(values)
    for value in values:
        assert np.isfinite(value.value)
        assert value.unit in ("percent", "nats", "seconds", "")


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_options_are_described(metric):
    """Every option has a description."""
    for name, field in metric.Options.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_measuring_changes_nothing(metric, random_toy):
    """Metrics read the arrays of the ensemble, which they share, and never write to them."""
    ensemble = random_toy(2, members=3, examples=10)
    arrays = (ensemble.logits, ensemble.labels, ensemble.probabilities, ensemble.log_probabilities, ensemble.correct)
    for array in arrays:
        array.flags.writeable = False
    list(made(metric).measure(ensemble))


class HalfRight:
    """A network between the members that is right on every second example at every point, with the logits of a toy ensemble."""

    has_running_statistics = False

    def __init__(self, toy=None):
        self.toy = toy

    def logits(self, point, split, correction):
        return self.toy.logits_at(point[None])[0]

    def module(self, point, correction):
        return self.toy.network_at(point)

    def correct(self, point, labels, correction=None):
        return np.arange(len(labels)) % 2 == 0


@pytest.mark.parametrize("metric", REGISTERED, ids=lambda metric: metric.name)
def test_evaluated_ensemble_of_the_harness(metric, random_toy):
    """It has all that a metric reads, and gives the values of the toy ensemble with equal logits."""
    toy = random_toy(3, members=3, examples=40)
    right = np.arange(40) % 2 == 0
    toy.correct_at = lambda points, correction: np.tile(right, (len(points), 1))
    ensemble = EvaluatedEnsemble(toy.logits, toy.labels, 0, lambda: HalfRight(toy)).with_evaluations(toy.predictions_on)
    toy.uniform = ensemble.uniform
    expected = {value.metric: value.value for value in made(metric).measure(toy)}
    assert {value.metric: value.value for value in made(metric).measure(ensemble)} == pytest.approx(expected, abs=1e-12)


def test_fewer_draws_are_the_first_of_more(random_toy):
    """`worst_connectivity` starts from the first draws of `joint_connectivity`, whatever their numbers."""
    ensemble = EvaluatedEnsemble(random_toy(0).logits, random_toy(0).labels, 0, HalfRight)
    few = ensemble.uniform("joint_connectivity", 5, 3)
    many = ensemble.uniform("joint_connectivity", 50, 3)
    np.testing.assert_array_equal(few, many[:5])
