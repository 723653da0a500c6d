"""The plane through three members, against linear classifiers whose logits are known at every point, and real networks."""

from __future__ import annotations

import numpy as np
import pytest

from harness.testing import check_metric, evaluated_ensemble
from harness_metrics import LossPlane
from harness_metrics.loss_plane import cross_entropy, triangle


def values_of(ensemble, **options):
    """Return the metric's values by name."""
    return {value.metric: value.value for value in LossPlane(LossPlane.Options(**options)).measure(ensemble)}


class TestTriangle:
    def test_distances_of_the_corners_are_those_of_the_members(self):
        """The plane keeps the distances of the members' weights."""
        weights = np.random.default_rng(0).normal(size=(3, 40))
        corners = triangle(weights).corners
        for i, j in ((0, 1), (0, 2), (1, 2)):
            expected = np.linalg.norm(weights[i] - weights[j])
            assert np.linalg.norm(corners[i] - corners[j]) == pytest.approx(expected)

    def test_weights_of_a_position_give_the_position_in_weight_space(self):
        """θ_1 + x u + y v equals Σ_i λ_i θ_i, inside and outside of the triangle."""
        members = np.random.default_rng(1).normal(size=(3, 40))
        shape = triangle(members)
        u = (members[2] - members[0]) / np.linalg.norm(members[2] - members[0])
        rest = members[1] - members[0]
        rest = rest - (rest @ u) * u
        v = rest / np.linalg.norm(rest)
        for x, y in ((0.0, 0.0), (1.3, 0.4), (-2.0, 5.0), (3.0, -1.0)):
            (weights,) = shape.weights(np.array([[x, y]]))
            np.testing.assert_allclose(weights @ members, members[0] + x * u + y * v, atol=1e-12)
            assert weights.sum() == pytest.approx(1)

    @pytest.mark.parametrize("second", [0.0, 0.5, 1.0, -3.0])
    def test_members_on_one_line(self, second):
        """They get an equilateral triangle, also equal members."""
        start, end = np.zeros(5), np.ones(5)
        for members in ([start, second * end, end], [start, start, start], [start, end, start]):
            corners = triangle(np.array(members)).corners
            for i, j in ((0, 1), (0, 2), (1, 2)):
                assert np.linalg.norm(corners[i] - corners[j]) == pytest.approx(1)


class TestLossPlane:
    def test_members_reproduce_their_accuracy_and_loss(self):
        """The three members' values are exactly those of their logits."""
        ensemble = evaluated_ensemble(4)
        values = values_of(ensemble, members=[3, 0, 2], points=3)
        for index, member in enumerate((3, 0, 2)):
            accuracy = (100.0 * ensemble.correct[member]).mean()
            loss = -ensemble.log_probabilities[member][np.arange(len(ensemble.labels)), ensemble.labels].mean()
            assert values[f"loss_plane_member_accuracy/{index}"] == accuracy
            assert values[f"loss_plane_member_loss/{index}"] == pytest.approx(loss, abs=1e-12)

    def test_grid_points_at_members_are_the_members(self):
        """The grid's points at the first and the third member have exactly their values."""
        values = values_of(evaluated_ensemble(3), points=15)
        x = [values[f"loss_plane_x/{index}"] for index in range(3)]
        low, extent = min(x), max(x) - min(x)
        for index in (0, 2):
            place = f"{(x[index] - low) / extent:.4g}/0"
            if f"loss_plane_accuracy/{place}" in values:
                assert values[f"loss_plane_accuracy/{place}"] == values[f"loss_plane_member_accuracy/{index}"]
                assert values[f"loss_plane_loss/{place}"] == values[f"loss_plane_member_loss/{index}"]
        assert min(x) == 0.0 or "loss_plane_accuracy/0/0" in values

    def test_points_outside_the_triangle(self):
        """Each grid point is the network at its affine combination, with negative weights outside the triangle."""
        ensemble = evaluated_ensemble(3)
        values = values_of(ensemble, points=4, border=0.5)
        members = np.stack([ensemble.state_dict(member)["weight"].double().numpy().ravel() for member in range(3)])
        shape = triangle(members)
        low, high = shape.corners.min(axis=0), shape.corners.max(axis=0)
        negative = 0
        for name, value in values.items():
            kind, _, place = name.partition("/")
            if kind != "loss_plane_loss":
                continue
            fractions = np.array([float(part) for part in place.split("/")])
            exact = np.linspace(-0.5, 1.5, 4)
            fractions = np.array([exact[np.abs(exact - part).argmin()] for part in fractions])
            (weights,) = shape.weights((low + fractions * (high - low))[None])
            negative += weights.min() < 0
            expected = cross_entropy(ensemble.logits_at(weights[None])[0], ensemble.labels).mean()
            assert value == pytest.approx(expected, rel=1e-4)
        assert negative > 8
        assert len([name for name in values if name.startswith("loss_plane_loss/")]) == 16

    def test_main_value_is_the_highest_barrier_inside(self):
        """The loss of linear classifiers is convex in the weights: no point inside is above the members' mixture."""
        values = values_of(evaluated_ensemble(3), points=21)
        assert values["loss_plane"] == 0.0

    def test_identical_members(self, toy):
        """They give the same accuracy and loss everywhere, and no barrier."""
        logits = np.random.default_rng(0).normal(size=(1, 30, 4)).repeat(3, axis=0)
        ensemble = toy(logits, np.zeros(30))
        values = values_of(ensemble, points=5)
        losses = [value for name, value in values.items() if name.startswith("loss_plane_loss")]
        assert losses == pytest.approx([losses[0]] * 25, abs=1e-6)
        assert values["loss_plane"] == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("members", [1, 2])
    def test_fewer_members_than_three(self, members):
        """The last member stands for the missing ones: the plane holds the segment between two members."""
        ensemble = evaluated_ensemble(members)
        values = values_of(ensemble, points=5)
        accuracies = [values[f"loss_plane_member_accuracy/{index}"] for index in range(3)]
        assert accuracies == [(100.0 * ensemble.correct[min(index, members - 1)]).mean() for index in range(3)]
        assert values["loss_plane"] == pytest.approx(0.0, abs=1e-6)

    def test_network_that_overflows_between_members(self, toy):
        """Its accuracy is 0 and its loss infinite; within the triangle the barrier is infinite, too."""
        ensemble = toy(np.random.default_rng(0).normal(size=(3, 10, 4)), np.zeros(10))
        ensemble.logits_at = lambda points, correction: np.full((1, 10, 4), np.inf, dtype=np.float32)
        values = values_of(ensemble, points=5)
        assert values["loss_plane"] == np.inf
        assert values["loss_plane_accuracy/0.5/0.5"] == 0.0
        assert values["loss_plane_loss/0.5/0.5"] == np.inf

    @pytest.mark.parametrize("chosen", [[0, 1, 3], [-1, 0, 1]])
    def test_member_that_does_not_exist(self, chosen):
        """The message names it and the size."""
        with pytest.raises(ValueError, match=r"^there is no member -?\d; the ensemble has 3, counted from 0"):
            LossPlane(LossPlane.Options(members=chosen)).check(3)

    def test_member_named_twice(self):
        """The message asks for three different ones."""
        with pytest.raises(ValueError, match=r"^members is \[0, 1, 1\]; name three different ones"):
            LossPlane(LossPlane.Options(members=[0, 1, 1])).check(3)

    def test_contract(self):
        """The metric keeps the contract of metrics."""
        check_metric(LossPlane())


def test_cross_entropy_of_large_logits():
    """It is exact for large logits, and infinite for those that are not finite."""
    logits = np.array([[1e4, 0.0], [0.0, 1e4], [np.nan, 0.0], [np.inf, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(cross_entropy(logits, np.zeros(4, dtype=int)), [0.0, 1e4, np.inf, np.inf])
