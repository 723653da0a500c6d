"""The map of q over the simplex, against closed forms and against the other metrics of connectivity."""

from __future__ import annotations

import numpy as np
import pytest

from harness.testing import check_metric
from harness_metrics import JointConnectivity, PairwiseConnectivity, SimplexMap
from harness_metrics.simplex_map import lattice, trapezoid_weights

DEPTH = 0.6


def barrier(points):
    """Accuracy 0.9 at the members, lower by DEPTH (1 − Σ λ²) between them; its mean over the simplex is known."""
    return 0.9 - DEPTH * (1 - np.square(points).sum(axis=1))


class TestLattice:
    @pytest.mark.parametrize(("members", "steps", "points"), [(1, 4, 1), (2, 4, 5), (3, 20, 231)])
    def test_number_of_points(self, members, steps, points):
        """A triangle has (n + 1)(n + 2)/2 points; all differ and sum to 1."""
        found = lattice(members, steps)
        assert found.shape == (points, members)
        assert len(np.unique(found, axis=0)) == points
        np.testing.assert_allclose(found.sum(axis=1), 1)

    @pytest.mark.parametrize("members", [1, 2, 3])
    def test_weights_integrate_linear_functions(self, members):
        """The mean of each coordinate is 1/M, exactly; that of Σ λ² is near 2/(M + 1)."""
        points = lattice(members, 20)
        weights = trapezoid_weights(points)
        np.testing.assert_allclose(weights @ points, 1 / members)
        assert weights @ np.square(points).sum(axis=1) == pytest.approx(2 / (members + 1), abs=2e-3)


class TestSimplexMap:
    @pytest.mark.parametrize("members", [4, 5])
    def test_mean_over_draws_is_joint_connectivity(self, members, toy, measure):
        """At equal draws the two values are the same, and so are their standard errors."""
        ensemble = toy.of_accuracy(barrier, members)
        joint = next(iter(JointConnectivity(JointConnectivity.Options(draws=30)).measure(ensemble)))
        mapped = next(iter(SimplexMap(SimplexMap.Options(draws=30)).measure(ensemble)))
        assert (mapped.value, mapped.standard_error) == (joint.value, joint.standard_error)

    @pytest.mark.parametrize("members", [2, 3])
    def test_mean_over_the_lattice(self, members, toy, measure):
        """It is near the expectation over Dir(1), −DEPTH (M − 1)/(M + 1)."""
        values = measure(SimplexMap, toy.of_accuracy(barrier, members, examples=4000), steps=20)
        expected = -100 * DEPTH * (members - 1) / (members + 1)
        assert values["simplex_map"] == pytest.approx(expected, abs=0.2)

    def test_corners_are_zero_and_no_network_is_evaluated_there(self, toy, measure):
        """q is exactly 0 at the members."""
        ensemble = toy.of_accuracy(barrier, 3)
        values = measure(SimplexMap, ensemble, steps=4)
        assert [values[f"simplex_map_q/{place}"] for place in ("1/0/0", "0/1/0", "0/0/1")] == [0.0, 0.0, 0.0]
        assert len(values) == 16
        assert len(ensemble.evaluated) == 12

    def test_edges_are_the_pairwise_curves(self, toy, measure):
        """On an edge, q is that of the pair's segment."""
        heights = np.random.default_rng(0).random((3, 3))
        ensemble = toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), 3)
        mapped = measure(SimplexMap, ensemble, steps=10)
        curves = measure(PairwiseConnectivity, ensemble, points=11)
        first, second = (100 * ensemble.correct.mean(axis=1))[:2]
        for share in np.arange(11) / 10:
            accuracy = curves[f"pairwise_curve/0-1/{share:.4g}"]
            q = mapped[f"simplex_map_q/{1 - share:.6g}/{share:.6g}/0"]
            assert q == pytest.approx(accuracy - (1 - share) * first - share * second)

    def test_correction_reaches_the_evaluation(self, toy, measure):
        """It is passed on."""
        for members in (3, 4):
            ensemble = toy.of_accuracy(barrier, members)
            measure(SimplexMap, ensemble, correction="none")
            assert set(ensemble.corrections) == {"none"}

    def test_single_member(self, toy, measure):
        """Its map is one point with q = 0."""
        assert measure(SimplexMap, toy.of_accuracy(barrier, 1)) == {"simplex_map": 0.0, "simplex_map_q/1": 0.0}

    @pytest.mark.parametrize("members", [3, 4])
    def test_contract(self, members):
        """The metric keeps the contract of metrics."""
        check_metric(SimplexMap(), members)
