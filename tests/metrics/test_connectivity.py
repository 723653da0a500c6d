"""Connectivity of members, against closed forms and plain loops over accuracies."""

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
    """The same accuracy at all points: one basin."""
    return np.full(len(points), 0.8)


class TestDirichlet:
    def test_draws_are_uniform_on_the_simplex(self):
        """Points are on the simplex, and each coordinate has the distribution Beta(1, M − 1), the marginal of Dir(1)."""
        points = dirichlet(np.random.default_rng(0).random((5000, 4)))
        np.testing.assert_allclose(points.sum(axis=1), 1)
        assert points.min() >= 0
        assert min(kstest(column, "beta", args=(1, 3)).pvalue for column in points.T) > 0.01

    def test_row_of_zeros_gives_the_centroid(self):
        """A row of zeros is no division by zero."""
        np.testing.assert_allclose(dirichlet(np.zeros((1, 4))), 0.25)


class TestJointConnectivity:
    @pytest.mark.parametrize("members", [2, 3, 5])
    def test_closed_form(self, members, toy, measure):
        """The mean over draws is −DEPTH (M − 1) / (M + 1) within four standard errors."""
        metric = JointConnectivity(JointConnectivity.Options(draws=2000))
        main = next(iter(metric.measure(toy.of_accuracy(barrier, members))))
        expected = -100 * DEPTH * (members - 1) / (members + 1)
        assert abs(main.value - expected) < 4 * main.standard_error
        assert (main.unit, main.better) == ("percent", "higher")

    def test_agrees_with_the_papers_formula_draw_by_draw(self, toy, measure):
        """Mean, standard error over draws and worst draw are those of q, computed for one λ at a time from accuracies."""
        ensemble = toy.of_accuracy(lambda points: 0.9 - points @ [0.1, 0.2, 0.4] * points.max(axis=1), 3)
        draws = dirichlet(ensemble.uniform("joint_connectivity", 50, 3))
        members = ensemble.correct.mean(axis=1)
        q = [100 * (ensemble.correct_at(point[None]).mean() - point @ members) for point in draws]
        values = measure(JointConnectivity, ensemble)
        assert values["joint_connectivity"] == pytest.approx(np.mean(q))
        assert values["joint_connectivity_worst_draw"] == pytest.approx(min(q))
        assert values["joint_connectivity_se_draws"] == pytest.approx(np.std(q, ddof=1) / np.sqrt(50))

    def test_number_of_evaluations(self, toy, measure):
        """By default 50 points are evaluated, as in the paper, and no members."""
        ensemble = toy.of_accuracy(barrier, 5)
        measure(JointConnectivity, ensemble)
        assert len(ensemble.evaluated) == 50

    def test_more_draws_than_a_block(self, toy, measure):
        """The value is the plain mean over all draws."""
        ensemble = toy.of_accuracy(barrier, 3, examples=100)
        draws = dirichlet(ensemble.uniform("joint_connectivity", 600, 3))
        expected = 100 * (ensemble.correct_at(draws).mean() - (draws @ ensemble.correct).mean())
        assert measure(JointConnectivity, ensemble, draws=600)["joint_connectivity"] == pytest.approx(expected)

    def test_flat_basin(self, toy, measure):
        """With equal accuracy at all points, all values are 0."""
        values = measure(JointConnectivity, toy.of_accuracy(flat, 4))
        assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-9)

    def test_single_member_is_connected_exactly(self, toy, measure):
        """M = 1: q̄ = 0 without rounding, and no network is evaluated."""
        ensemble = toy.of_accuracy(barrier, 1)
        assert set(measure(JointConnectivity, ensemble).values()) == {0.0}
        assert ensemble.evaluated == []

    def test_standard_errors_and_interval(self, toy, measure):
        """The total is at least each part, and the interval is centered on q̄."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3))
        assert values["joint_connectivity_se"] >= values["joint_connectivity_se_draws"] > 0
        assert values["joint_connectivity_se"] >= values["joint_connectivity_se_examples"] > 0
        middle = (values["joint_connectivity_low"] + values["joint_connectivity_high"]) / 2
        assert values["joint_connectivity"] == pytest.approx(middle)

    def test_single_draw(self, toy, measure):
        """N = 1 has no spread over draws: only the standard error over examples is reported."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3), draws=1)
        assert list(values) == ["joint_connectivity", "joint_connectivity_worst_draw", "joint_connectivity_se_examples"]

    def test_single_example(self, toy, measure):
        """It gives finite values and no standard error over examples."""
        values = measure(JointConnectivity, toy.of_accuracy(barrier, 3, examples=1))
        assert np.isfinite(list(values.values())).all()
        assert "joint_connectivity_se_examples" not in values

    def test_correction_reaches_the_evaluation(self, toy, measure):
        """All three metrics pass the option on."""
        for metric in (JointConnectivity, WorstConnectivity, PairwiseConnectivity):
            for how in (None, "repair", {"repair": {"before_normalization": True}}):
                ensemble = toy.of_accuracy(barrier, 2)
                measure(metric, ensemble, correction=how)
                assert ensemble.corrections
                assert all(correction == how for correction in ensemble.corrections)

    def test_zero_draws(self):
        """The option is refused."""
        with pytest.raises(ValueError, match=r"draws\n.*greater than or equal to 1"):
            JointConnectivity.Options(draws=0)

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_of_members_does_not_matter(self, seed, toy, measure):
        """Members and draws permuted together give the same values, up to an example or two at the threshold."""
        heights = np.random.default_rng(seed).random(4)
        order = np.random.default_rng(seed).permutation(4)
        ensemble = toy.of_accuracy(lambda points: points**2 @ heights, 4, seed=seed)
        permuted = toy.of_accuracy(lambda points: points**2 @ heights[order], 4, seed=seed)
        draws = ensemble.uniform("joint_connectivity", 50, 4)
        permuted.uniform = lambda purpose, *shape: draws[:, order]
        assert measure(JointConnectivity, permuted) == pytest.approx(measure(JointConnectivity, ensemble), abs=0.25)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 5))
    def test_identical_members(self, seed, members, toy, measure):
        """Every convex combination of copies of one member is that member, so all values are 0."""
        right = np.random.default_rng(seed).random(30) < 0.7
        ensemble = toy.of_accuracy(flat, members, examples=30)
        ensemble.correct = right[None].repeat(members, axis=0)
        ensemble.correct_at = lambda points, correction: right[None].repeat(len(points), axis=0)
        values = measure(JointConnectivity, ensemble)
        assert values == pytest.approx(dict.fromkeys(values, 0), abs=1e-9)
        assert measure(WorstConnectivity, ensemble, evaluations=20)["worst_connectivity"] == pytest.approx(0, abs=1e-9)
        pairwise = measure(PairwiseConnectivity, ensemble)
        assert [pairwise[name] for name in pairwise if "curve" not in name] == pytest.approx([0] * 4, abs=1e-9)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4))
    def test_values_stay_in_their_ranges(self, seed, members, toy, measure):
        """q is in [−100, 100], the worst draw at most the mean, the worst point in [−100, 0], barriers in [0, 100]."""
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
        """The minimum of a bowl, inside the simplex or on a face, is found from the centroid, up to a step."""
        members = len(target)
        point = worst_point(lambda p: np.square(p - target).sum(axis=1), np.full((1, members), 1 / members), 1000)
        np.testing.assert_allclose(point, target, atol=0.01)

    def test_evaluations_are_a_budget(self):
        """The search evaluates at most the allowed number of points beyond its starts, all on the simplex."""
        evaluated = []

        def q(points):
            evaluated.append(points)
            return np.square(points - [0.1, 0.2, 0.7]).sum(axis=1)

        starts = np.full((1, 3), 1 / 3)
        for budget in (0, 1, 7, 50):
            evaluated.clear()
            worst_point(q, starts, budget)
            points = np.vstack(evaluated)
            assert len(points) <= budget + 1
            assert (points >= 0).all()
            np.testing.assert_allclose(points.sum(axis=1), 1)

    @given(seed=st.integers(0, 2**32 - 1), members=st.integers(2, 5))
    def test_result_is_never_above_the_lowest_start(self, seed, members):
        """This holds for every landscape."""
        generator = np.random.default_rng(seed)
        waves = generator.normal(0, 30, (members, members))

        def q(points):
            return np.sin(points @ waves).sum(axis=1)

        starts = generator.dirichlet(np.ones(members), 5)
        assert q(worst_point(q, starts, 60)[None])[0] <= q(starts).min() + 1e-12


class TestWorstConnectivity:
    def test_closed_form(self, toy, measure):
        """The lowest point of a symmetric barrier is the centroid, with −DEPTH (1 − 1 / M)."""
        values = measure(WorstConnectivity, toy.of_accuracy(barrier, 4))
        assert values.pop("worst_connectivity") == pytest.approx(-100 * DEPTH * 3 / 4, abs=0.1)
        centroid = {f"worst_connectivity_lambda/{member}": 0.25 for member in range(4)}
        assert values == pytest.approx(centroid, abs=0.05)

    def test_never_above_the_worst_draw(self, toy, measure):
        """The search starts from the draws of `joint_connectivity`: its point is at most their worst, often much lower."""

        def dent(points):
            return 0.9 - 0.8 * np.maximum(0, 1 - 8 * np.abs(points - [0.6, 0.4, 0.0]).sum(axis=1))

        for budget in (0, 200):
            ensemble = toy.of_accuracy(dent, 3)
            worst = measure(WorstConnectivity, ensemble, evaluations=budget)["worst_connectivity"]
            assert worst <= measure(JointConnectivity, ensemble)["joint_connectivity_worst_draw"] + 1e-9
        assert worst == pytest.approx(-80, abs=5)

    def test_all_points_better_than_the_members(self, toy, measure):
        """The lowest points are the members, where q is 0."""
        values = measure(WorstConnectivity, toy.of_accuracy(lambda p: 1 - np.square(p).sum(axis=1) / 2, 3))
        assert values["worst_connectivity"] == 0

    def test_single_member_is_connected_exactly(self, toy, measure):
        """M = 1: the value is 0 at λ = 1, and no network is evaluated."""
        ensemble = toy.of_accuracy(barrier, 1)
        assert measure(WorstConnectivity, ensemble) == {"worst_connectivity": 0.0, "worst_connectivity_lambda/0": 1.0}
        assert ensemble.evaluated == []

    def test_repeated_searches_agree(self, toy, measure):
        """The search is deterministic."""
        first = measure(WorstConnectivity, toy.of_accuracy(barrier, 5))
        second = measure(WorstConnectivity, toy.of_accuracy(barrier, 5))
        assert first == second


class TestPairwiseConnectivity:
    def test_closed_form(self, toy, measure):
        """On an edge the symmetric barrier is 2 DEPTH λ (1 − λ), which is DEPTH / 2 at the midpoint."""
        values = measure(PairwiseConnectivity, toy.of_accuracy(barrier, 3, examples=2000))
        grid = np.arange(1, 10) / 10
        mean = -100 * np.mean(2 * DEPTH * grid * (1 - grid))
        assert values["pairwise_connectivity"] == pytest.approx(mean, abs=0.05)
        assert values["pairwise_connectivity_worst_pair"] == pytest.approx(mean, abs=0.05)
        assert values["pairwise_barrier"] == pytest.approx(100 * DEPTH / 2, abs=0.05)
        assert values["pairwise_barrier_worst_pair"] == pytest.approx(100 * DEPTH / 2, abs=0.05)

    def test_agrees_with_a_loop_over_accuracies(self, toy, measure):
        """Means, barriers and worst pairs are those of a loop over pairs and λ, for unequal members and pairs."""
        heights = np.random.default_rng(3).random((4, 4))
        ensemble = toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), 4)
        members = 100 * ensemble.correct.mean(axis=1)
        means = []
        barriers = []
        for i, j in combinations(range(4), 2):
            q = []
            for x in (0.25, 0.5, 0.75):
                point = np.zeros((1, 4))
                point[0, i] = 1 - x
                point[0, j] = x
                q.append(100 * ensemble.correct_at(point).mean() - (1 - x) * members[i] - x * members[j])
            means.append(np.mean(q))
            barriers.append(max(0, -min(q)))
        values = measure(PairwiseConnectivity, ensemble, points=5)
        assert values["pairwise_connectivity"] == pytest.approx(np.mean(means))
        assert values["pairwise_connectivity_worst_pair"] == pytest.approx(min(means))
        assert values["pairwise_barrier"] == pytest.approx(np.mean(barriers))
        assert values["pairwise_barrier_worst_pair"] == pytest.approx(max(barriers))

    def test_curves_hold_the_accuracy_at_every_point(self, toy, measure):
        """Each pair and λ has its accuracy; λ is the share of the second member, and the ends are the members."""
        heights = np.array([0.9, 0.6, 0.3])
        ensemble = toy.of_accuracy(lambda points: points @ heights, 3)
        values = measure(PairwiseConnectivity, ensemble, points=5)
        curves = {name: value for name, value in values.items() if "curve" in name}
        expected = {}
        for i, j in [(0, 1), (0, 2), (1, 2)]:
            for x in (0, 0.25, 0.5, 0.75, 1):
                expected[f"pairwise_curve/{i}-{j}/{x}"] = 100 * ((1 - x) * heights[i] + x * heights[j])
        assert curves == pytest.approx(expected, abs=0.1)

    def test_ends_are_not_evaluated(self, toy, measure):
        """Three pairs with nine inner points each take 27 evaluations."""
        ensemble = toy.of_accuracy(barrier, 3)
        measure(PairwiseConnectivity, ensemble)
        assert len(ensemble.evaluated) == 27

    def test_single_member(self, toy, measure):
        """M = 1 gives the values of identical copies: four zeros and no curves."""
        values = measure(PairwiseConnectivity, toy.of_accuracy(barrier, 1))
        means = ["pairwise_connectivity", "pairwise_connectivity_worst_pair"]
        assert values == dict.fromkeys([*means, "pairwise_barrier", "pairwise_barrier_worst_pair"], 0.0)

    @settings(deadline=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_order_of_members_does_not_matter(self, seed, toy, measure):
        """Permuted members give the same four values, up to an example or two at the threshold."""
        generator = np.random.default_rng(seed)
        heights = generator.random((4, 4))
        order = generator.permutation(4)
        shuffled = heights[np.ix_(order, order)]
        plain = measure(PairwiseConnectivity, toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, heights, p), 4))
        permuted = measure(PairwiseConnectivity, toy.of_accuracy(lambda p: np.einsum("pi,ij,pj->p", p, shuffled, p), 4))
        names = [name for name in plain if "curve" not in name]
        assert [permuted[name] for name in names] == pytest.approx([plain[name] for name in names], abs=0.2)

    def test_units_and_directions(self, toy):
        """All values are in percent; higher is better for accuracies and q, lower for barriers."""
        for value in PairwiseConnectivity().measure(toy.of_accuracy(barrier, 2)):
            assert value.unit == "percent"
            assert value.better == ("lower" if "barrier" in value.metric else "higher")

    def test_grid_without_inner_points(self):
        """The option is refused."""
        with pytest.raises(ValueError, match=r"points\n.*greater than or equal to 3"):
            PairwiseConnectivity.Options(points=2)
