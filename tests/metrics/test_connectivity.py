from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from harness_metrics import JointConnectivity, PairwiseConnectivity, WorstConnectivity
from harness_metrics.connectivity import dirichlet, worst_point

DEPTH = 0.6


def barrier(points):
    """Accuracy 0.9 at the members, lower by DEPTH (1 − Σ λ²) between them.

    For λ ~ Dir(1), E Σ λ² = 2 / (M + 1): q̄ = −DEPTH (M − 1) / (M + 1); lowest at the centroid, −DEPTH (1 − 1 / M).
    """
    return 0.9 - DEPTH * (1 - np.square(points).sum(axis=1))


def flat(points):
    """The same accuracy everywhere: one basin."""
    return np.full(len(points), 0.8)


class TestDirichlet:
    def test_draws_are_uniform_on_the_simplex(self):
        """Points lie on the simplex and each coordinate follows Beta(1, M − 1), the marginal of Dir(1)."""
        points = dirichlet(np.random.default_rng(0).random((5000, 4)))
        np.testing.assert_allclose(points.sum(axis=1), 1)
        assert points.min() >= 0
        assert min(kstest(column, "beta", args=(1, 3)).pvalue for column in points.T) > 0.01

    def test_row_of_zeros_gives_the_centroid(self):
        """A stream that yields only zeros is no division by zero."""
        np.testing.assert_allclose(dirichlet(np.zeros((1, 4))), 0.25)


class TestJointConnectivity:
    @pytest.mark.parametrize("members", [2, 3, 5])
    def test_closed_form(self, members, toy, measure):
        """The mean over draws comes to −DEPTH (M − 1) / (M + 1) within four standard errors."""
        values = list(JointConnectivity(JointConnectivity.Options(draws=2000)).measure(toy.of_accuracy(barrier, members)))
        expected = -100 * DEPTH * (members - 1) / (members + 1)
        assert abs(values[0].value - expected) < 4 * values[0].standard_error
        assert (values[0].unit, values[0].better) == ("percent", "higher")

    def test_agrees_with_the_papers_formula_draw_by_draw(self, toy, measure):
        """Mean, standard error over draws and worst draw are those of q computed one λ at a time from accuracies."""
        ensemble = toy.of_accuracy(lambda points: 0.9 - points @ [0.1, 0.2, 0.4] * points.max(axis=1), 3)
        draws = dirichlet(ensemble.uniform("joint_connectivity", 50, 3))
        members = ensemble.correct.mean(axis=1)
        q = [100 * (ensemble.correct_at(point[None]).mean() - point @ members) for point in draws]
        values = measure(JointConnectivity, ensemble)
        assert values["joint_connectivity"] == pytest.approx(np.mean(q))
        assert values["joint_connectivity_worst_draw"] == pytest.approx(min(q))
        assert values["joint_connectivity_se_draws"] == pytest.approx(np.std(q, ddof=1) / np.sqrt(50))

    def test_number_of_evaluations_is_the_number_of_draws(self, toy, measure):
        """Fifty points by default, as the paper; members are not evaluated again."""
        ensemble = toy.of_accuracy(barrier, 5)
        measure(JointConnectivity, ensemble)
        assert len(ensemble.evaluated) == 50

    def test_many_draws_are_measured_in_blocks(self, toy, measure):
        """More draws than fit a block give the plain mean over all of them."""
        ensemble = toy.of_accuracy(barrier, 3, examples=100)
        draws = dirichlet(ensemble.uniform("joint_connectivity", 600, 3))
        expected = 100 * (ensemble.correct_at(draws).mean() - (draws @ ensemble.correct).mean())
        assert measure(JointConnectivity, ensemble, draws=600)["joint_connectivity"] == pytest.approx(expected)

    def test_flat_basin_is_connected(self, toy, measure):
        """Equal accuracy everywhere: q̄ is 0, and so is the worst draw."""
        values = measure(JointConnectivity, toy.of_accuracy(flat, 4))
        assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-9)

    def test_single_member_is_connected_exactly(self, toy, measure):
        """M = 1: q̄ = 0 without rounding, and no network is evaluated."""
        ensemble = toy.of_accuracy(barrier, 1)
        assert set(measure(JointConnectivity, ensemble).values()) == {0.0}
        assert ensemble.evaluated == []

    def test_interval_holds_both_sources(self, toy, measure):
        """The total is at least each part; the interval is centerd on q̄."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3))
        assert values["joint_connectivity_se"] >= values["joint_connectivity_se_draws"] > 0
        assert values["joint_connectivity_se"] >= values["joint_connectivity_se_examples"] > 0
        middle = (values["joint_connectivity_low"] + values["joint_connectivity_high"]) / 2
        assert values["joint_connectivity"] == pytest.approx(middle)

    def test_single_draw_leaves_out_what_it_cannot_tell(self, toy, measure):
        """N = 1 has no spread over draws: only the examples' part is reported."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3), draws=1)
        assert list(values) == ["joint_connectivity", "joint_connectivity_worst_draw", "joint_connectivity_se_examples"]

    def test_single_example(self, toy, measure):
        """One example gives finite values and no standard error over examples."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3, examples=1))
        assert np.isfinite(list(values.values())).all()
        assert "joint_connectivity_se_examples" not in values

    def test_batchnorm_option_reaches_the_evaluation(self, toy, measure):
        """All three metrics evaluate as the option says."""
        for metric in (JointConnectivity, WorstConnectivity, PairwiseConnectivity):
            for how in ("recompute", "interpolate"):
                ensemble = toy.of_accuracy(barrier, 2)
                measure(metric, ensemble, batchnorm=how)
                assert ensemble.batchnorm == {how}

    def test_no_draws_are_refused(self):
        """N = 0 has no mean."""
        with pytest.raises(ValueError, match=r"draws\n.*greater than or equal to 1"):
            JointConnectivity.Options(draws=0)

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_of_members_does_not_matter(self, seed, toy, measure):
        """With the draws permuted as the members are, nothing changes: up to an example or two on the threshold."""
        heights = np.random.default_rng(seed).random(4)
        order = np.random.default_rng(seed).permutation(4)
        ensemble = toy.of_accuracy(lambda points: points**2 @ heights, 4, seed=seed)
        permuted = toy.of_accuracy(lambda points: points**2 @ heights[order], 4, seed=seed)
        draws = ensemble.uniform("joint_connectivity", 50, 4)
        permuted.uniform = lambda purpose, *shape: draws[:, order]
        assert measure(JointConnectivity, permuted) == pytest.approx(measure(JointConnectivity, ensemble), abs=0.25)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5))
    def test_identical_members_are_connected(self, seed, members, toy, measure):
        """Copies of one member: every convex combination is that member, all of q is 0."""
        right = np.random.default_rng(seed).random(30) < 0.7
        ensemble = toy.of_accuracy(flat, members, examples=30)
        ensemble.correct = right[None].repeat(members, axis=0)
        ensemble.correct_at = lambda points, batchnorm: right[None].repeat(len(points), axis=0)
        values = measure(JointConnectivity, ensemble)
        assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-9)
        assert measure(WorstConnectivity, ensemble, evaluations=20)["worst_connectivity"] == pytest.approx(0, abs=1e-9)
        pairwise = measure(PairwiseConnectivity, ensemble)
        assert [pairwise[name] for name in pairwise if "curve" not in name] == pytest.approx([0] * 4, abs=1e-9)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4))
    def test_values_stay_in_their_ranges(self, seed, members, toy, measure):
        """q lies in [−100, 100], the worst draw at or below the mean; worst point in [−100, 0], barriers in [0, 100]."""
        heights = np.random.default_rng(seed).random((members, members))
        ensemble = toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), members, examples=20, seed=seed)
        joint = measure(JointConnectivity, ensemble)
        assert -100 <= joint["joint_connectivity_worst_draw"] <= joint["joint_connectivity"] + 1e-9 <= 100 + 1e-9
        assert -100 <= measure(WorstConnectivity, ensemble, evaluations=20)["worst_connectivity"] <= 0
        pairwise = measure(PairwiseConnectivity, ensemble)
        assert 0 <= pairwise["pairwise_barrier"] <= pairwise["pairwise_barrier_worst_pair"] + 1e-9 <= 100 + 1e-9


class TestWorstPoint:
    @pytest.mark.parametrize(
        "target", [[0.5, 0.3, 0.2], [0.7, 0.3, 0.0], [0.6, 0.1, 0.1, 0.1, 0.1], [0.05, 0.9, 0.05, 0.0, 0.0]]
    )
    def test_search_finds_the_lowest_point(self, target):
        """A bowl's bottom, inside the simplex or on a face, is found from the centroid to a step's length."""
        members = len(target)
        point = worst_point(lambda p: np.square(p - target).sum(axis=1), np.full((1, members), 1 / members), 1000)
        np.testing.assert_allclose(point, target, atol=0.01)

    def test_evaluations_are_a_budget(self):
        """The search asks for no more points than allowed beyond its starts, all of them on the simplex."""
        asked = []

        def q(points):
            asked.append(points)
            return np.square(points - [0.1, 0.2, 0.7]).sum(axis=1)

        starts = np.full((1, 3), 1 / 3)
        for budget in (0, 1, 7, 50):
            asked.clear()
            worst_point(q, starts, budget)
            points = np.vstack(asked)
            assert len(points) <= budget + 1
            assert (points >= 0).all()
            np.testing.assert_allclose(points.sum(axis=1), 1)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(2, 5))
    def test_result_is_never_above_the_lowest_start(self, seed, members):
        """However rough the landscape, refinement only lowers."""
        generator = np.random.default_rng(seed)
        waves = generator.normal(0, 30, (members, members))

        def q(points):
            return np.sin(points @ waves).sum(axis=1)

        starts = generator.dirichlet(np.ones(members), 5)
        assert q(worst_point(q, starts, 60)[None])[0] <= q(starts).min() + 1e-12


class TestWorstConnectivity:
    def test_closed_form(self, toy, measure):
        """A symmetric barrier is deepest at the centroid: −DEPTH (1 − 1 / M)."""
        values = measure(WorstConnectivity, toy.of_accuracy(barrier, 4))
        assert values.pop("worst_connectivity") == pytest.approx(-100 * DEPTH * 3 / 4, abs=0.1)
        assert values == pytest.approx({f"worst_connectivity_lambda/{member}": 0.25 for member in range(4)}, abs=0.05)

    def test_never_above_the_worst_draw(self, toy, measure):
        """The search starts from joint_connectivity's draws: it finds nothing better than their worst, often much worse."""

        def dent(points):
            return 0.9 - 0.8 * np.maximum(0, 1 - 8 * np.abs(points - [0.6, 0.4, 0.0]).sum(axis=1))

        for budget in (0, 200):
            ensemble = toy.of_accuracy(dent, 3)
            worst = measure(WorstConnectivity, ensemble, evaluations=budget)["worst_connectivity"]
            assert worst <= measure(JointConnectivity, ensemble)["joint_connectivity_worst_draw"] + 1e-9
        assert worst == pytest.approx(-80, abs=5)

    def test_is_zero_where_every_point_is_better_than_its_members(self, toy, measure):
        """A simplex that bulges upwards has its lowest points at the members: q = 0 there."""
        values = measure(WorstConnectivity, toy.of_accuracy(lambda p: 1 - np.square(p).sum(axis=1) / 2, 3))
        assert values["worst_connectivity"] == 0

    def test_single_member_is_connected_exactly(self, toy, measure):
        """M = 1: 0 at λ = 1, and no network is evaluated."""
        ensemble = toy.of_accuracy(barrier, 1)
        assert measure(WorstConnectivity, ensemble) == {"worst_connectivity": 0.0, "worst_connectivity_lambda/0": 1.0}
        assert ensemble.evaluated == []

    def test_repeated_searches_agree(self, toy, measure):
        """The search is deterministic."""
        first, second = (measure(WorstConnectivity, toy.of_accuracy(barrier, 5)) for _ in range(2))
        assert first == second


class TestPairwiseConnectivity:
    def test_closed_form(self, toy, measure):
        """On an edge the symmetric barrier is 2 DEPTH λ (1 − λ): DEPTH / 2 at the midpoint, and its mean over the grid."""
        values = measure(PairwiseConnectivity, toy.of_accuracy(barrier, 3, examples=2000))
        grid = np.arange(1, 10) / 10
        mean = -100 * np.mean(2 * DEPTH * grid * (1 - grid))
        assert values["pairwise_connectivity"] == pytest.approx(mean, abs=0.05)
        assert values["pairwise_connectivity_worst_pair"] == pytest.approx(mean, abs=0.05)
        assert values["pairwise_barrier"] == pytest.approx(100 * DEPTH / 2, abs=0.05)
        assert values["pairwise_barrier_worst_pair"] == pytest.approx(100 * DEPTH / 2, abs=0.05)

    def test_agrees_with_a_loop_over_accuracies(self, toy, measure):
        """Means, barriers and worst pairs are those of a plain loop over pairs and λ, for unequal members and pairs."""
        heights = np.random.default_rng(3).random((4, 4))
        ensemble = toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), 4)
        members, means, barriers = 100 * ensemble.correct.mean(axis=1), [], []
        for i, j in combinations(range(4), 2):
            q = []
            for x in (0.25, 0.5, 0.75):
                point = np.zeros((1, 4))
                point[0, i], point[0, j] = 1 - x, x
                q.append(100 * ensemble.correct_at(point).mean() - (1 - x) * members[i] - x * members[j])
            means.append(np.mean(q))
            barriers.append(max(0, -min(q)))
        values = measure(PairwiseConnectivity, ensemble, points=5)
        assert values["pairwise_connectivity"] == pytest.approx(np.mean(means))
        assert values["pairwise_connectivity_worst_pair"] == pytest.approx(min(means))
        assert values["pairwise_barrier"] == pytest.approx(np.mean(barriers))
        assert values["pairwise_barrier_worst_pair"] == pytest.approx(max(barriers))

    def test_curves_hold_the_accuracy_at_every_point(self, toy, measure):
        """Each pair and λ has its accuracy, λ being the second member's share, the ends the members' own accuracies."""
        heights = np.array([0.9, 0.6, 0.3])
        ensemble = toy.of_accuracy(lambda points: points @ heights, 3)
        values = measure(PairwiseConnectivity, ensemble, points=5)
        curves = {name: value for name, value in values.items() if "curve" in name}
        expected = {
            f"pairwise_curve/{i}-{j}/{x}": 100 * ((1 - x) * heights[i] + x * heights[j])
            for i, j in [(0, 1), (0, 2), (1, 2)]
            for x in (0, 0.25, 0.5, 0.75, 1)
        }
        assert curves == pytest.approx(expected, abs=0.1)

    def test_ends_are_not_evaluated(self, toy, measure):
        """Three pairs of nine inner points each: 27 evaluations."""
        ensemble = toy.of_accuracy(barrier, 3)
        measure(PairwiseConnectivity, ensemble)
        assert len(ensemble.evaluated) == 27

    def test_single_member_has_no_pairs(self, toy, measure):
        """M = 1 is measured as identical copies would be: all four values 0, no curves."""
        values = measure(PairwiseConnectivity, toy.of_accuracy(barrier, 1))
        means = ["pairwise_connectivity", "pairwise_connectivity_worst_pair"]
        assert values == dict.fromkeys([*means, "pairwise_barrier", "pairwise_barrier_worst_pair"], 0.0)

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_of_members_does_not_matter(self, seed, toy, measure):
        """Permuted members give the same four values: up to an example or two on the threshold."""
        generator = np.random.default_rng(seed)
        heights, order = generator.random((4, 4)), generator.permutation(4)
        shuffled = heights[np.ix_(order, order)]
        plain = measure(PairwiseConnectivity, toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), 4))
        permuted = measure(PairwiseConnectivity, toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, shuffled, p), 4))
        names = [name for name in plain if "curve" not in name]
        assert [permuted[name] for name in names] == pytest.approx([plain[name] for name in names], abs=0.2)

    def test_every_value_has_a_unit_and_barriers_are_better_low(self, toy):
        """All values are in percent; accuracies and q are better high, barriers low."""
        for value in PairwiseConnectivity().measure(toy.of_accuracy(barrier, 2)):
            assert value.unit == "percent"
            assert value.better == ("lower" if "barrier" in value.metric else "higher")

    def test_two_points_have_no_inner_one(self):
        """A grid of the two ends alone is refused."""
        with pytest.raises(ValueError, match=r"points\n.*greater than or equal to 3"):
            PairwiseConnectivity.Options(points=2)
