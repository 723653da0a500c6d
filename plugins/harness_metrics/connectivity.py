"""Accuracy between members in weight space: over the whole simplex, at its worst point, and along every edge.

All metrics are computed from one quantity, the *excess* of a point λ of the simplex (paper, section 3, "Connectivity"),

    q(λ) = Acc(Σ_i λ_i θ_i) − Σ_i λ_i Acc(θ_i),

in percent of test accuracy: it is 0 at the members, and below 0 at a barrier between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import Metric, MetricValue, Options, PluginChoice, statistics
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble

DRAWS = "joint_connectivity"  # purpose of the random numbers for λ, equal for all methods and for both metrics that draw λ
_BLOCK_SIZE = 256  # draws per table of draws × examples, which bounds its memory
_FIRST_STEP, _LAST_STEP = 1 / 4, 1 / 128  # of the pattern search, as fractions of an edge


def correction_field() -> Any:
    """Return the option `correction` of a metric that evaluates mixtures."""
    return Field(
        None,
        description="how the network at every λ is corrected: none, batchnorm, repair, rescale, reshift, or another registered "
        "correction, with its options or without; default: batchnorm if the network has running statistics, else none",
        json_schema_extra={"plugin": "correction"},
    )


class CorrectedMetric(Metric):
    """A metric with the option `correction`."""

    @property
    def key_identity(self) -> dict[str, Any]:
        """The identity in keys. Without a correction it is as before there were corrections: measurements stay valid."""
        identity = self.identity
        if self.options.correction is not None:
            return identity
        options = {name: value for name, value in identity["options"].items() if name != "correction"}
        return {**identity, "options": {**options, "batchnorm": "recompute"}}


def dirichlet(uniform: np.ndarray) -> np.ndarray:
    """Return points of Dir(1), uniform on the simplex, (draws, members), from uniform numbers in [0, 1) of the same shape.

    They are exponential variates divided by their sum. Source: Devroye, Non-Uniform Random Variate Generation (1986),
    chapter XI.4.
    """
    exponential = np.maximum(-np.log1p(-uniform), np.finfo(np.float64).tiny)  # a row of zeros gives the centroid, not 0 / 0
    return exponential / exponential.sum(axis=1, keepdims=True)


def right_at(ensemble: EvaluatedEnsemble, points: np.ndarray, correction: PluginChoice | None = None) -> np.ndarray:
    """Return where the network at Σ_i λ_pi θ_i is right, bool (points, examples), for points (points, members).

    A vertex of the simplex is a member, whose predictions are known: no network is evaluated there.
    """
    vertex = points.max(axis=1) == 1
    right = np.empty((len(points), len(ensemble.labels)), dtype=bool)
    right[vertex] = ensemble.correct[points[vertex].argmax(axis=1)]
    if not vertex.all():
        right[~vertex] = ensemble.correct_at(points[~vertex], correction)
    return right


def excess(right: np.ndarray, points: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the contribution of each example to q(λ_p), in percent, float64 (points, examples); q(λ_p) is its mean.

    d_pe = 100 ([right at Σ_i λ_pi θ_i] − Σ_i λ_pi [member i right]). `right` is bool (points, examples), `points` (points,
    members), `correct` bool (members, examples).
    """
    return 100.0 * (right - points @ correct)


def excess_blocks(
    ensemble: EvaluatedEnsemble, points: np.ndarray, correction: PluginChoice | None = None
) -> Iterator[np.ndarray]:
    """Yield the excess at points (points, members) in blocks (points of the block, examples)."""
    for first in range(0, len(points), _BLOCK_SIZE):
        block = points[first : first + _BLOCK_SIZE]
        yield excess(right_at(ensemble, block, correction), block, ensemble.correct)


def worst_point(q: Callable[[np.ndarray], np.ndarray], starts: np.ndarray, evaluations: int) -> np.ndarray:
    """Return the point (members,) of the simplex with the lowest q of all points tried.

    `q` maps points (points, members) to values (points,). A pattern search (Torczon 1997) begins at the lowest of the starts
    (points, members) and tries at most `evaluations` further points: it tries steps towards and away from every vertex,
    moves to the lowest point if that is below the current one, and halves its step otherwise. The search is deterministic,
    and its result is never above the lowest start.
    """
    values = q(starts)
    point = starts[values.argmin()]
    lowest = float(values.min())
    step = _FIRST_STEP
    while evaluations > 0 and step >= _LAST_STEP:
        candidates = _steps(point, step)[:evaluations]
        evaluations -= len(candidates)
        values = q(candidates)
        if values.min() < lowest:
            point = candidates[values.argmin()]
            lowest = float(values.min())
        else:
            step /= 2
    return point


def search_starts(draws: np.ndarray) -> np.ndarray:
    """Return the starts of the search for the worst point, (points, members): vertices, centroid, midpoints of edges, draws."""
    members = draws.shape[1]
    vertices = np.eye(members)
    midpoints = [(vertices[i] + vertices[j]) / 2 for i, j in combinations(range(members), 2)]
    return np.vstack([vertices, np.full(members, 1 / members), *midpoints, draws])


def _steps(point: np.ndarray, step: float) -> np.ndarray:
    """Return the points one step from a point, (at most 2 × members, members): towards, then away from each vertex."""
    vertices = np.eye(len(point))
    towards = point + step * (vertices - point)
    movable = (point > 0) & (point < 1)
    share = np.minimum(step, point[movable]) / (1 - point[movable])  # lowers a coordinate by `step`, at most to 0
    away = point - share[:, None] * (vertices[movable] - point)
    steps = np.maximum(np.vstack([towards, away]), 0.0)  # rounding may give −1e-17
    return steps / steps.sum(axis=1, keepdims=True)


def _curve(name: str, grid: np.ndarray, right: np.ndarray) -> list[MetricValue]:
    """Return the accuracy at every λ of a segment, named `<name>/<λ>`; grid is (points,), right bool (points, examples)."""
    values = []
    for share, row in zip(grid, right):
        values.append(mean_over_examples(f"{name}/{share:.4g}", 100.0 * row, "percent", "higher"))
    return values


class JointConnectivityOptions(Options):
    """Number of draws and correction of `joint_connectivity`."""

    draws: int = Field(50, ge=1, le=100_000, description="N, the draws λ ~ Dir(1) (the paper's 50); at least one")
    correction: PluginChoice | None = correction_field()


class JointConnectivity(CorrectedMetric):
    """q̄, the mean of q(λ) over draws λ ~ Dir(1), in percent: near or above 0 for members of one basin.

    The draws are the same for every method. Source: paper, section 3 and appendix C.
    """

    name, version = "joint_connectivity", 1
    title, symbol, better = "Connectivity", "q̄", "higher"
    default = True
    Options = JointConnectivityOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return q̄ with its standard error over draws, the worst draw, the standard errors by source, and the interval."""
        refuse_non_finite(ensemble.logits)
        draws = dirichlet(ensemble.uniform(DRAWS, self.options.draws, ensemble.size))
        estimate = statistics.crossed_mean(excess_blocks(ensemble, draws, self.options.correction))
        yield MetricValue(self.name, estimate.mean, estimate.se_rows, "percent", "higher", estimate.columns)
        yield MetricValue(f"{self.name}_worst_draw", float(estimate.rows.min()), None, "percent", "higher")
        yield from self._uncertainty(estimate)

    def _uncertainty(self, estimate: statistics.CrossedMean) -> Iterator[MetricValue]:
        """Yield the standard errors by source, their total and the 95 % interval, without those that the sample cannot give."""
        values = {"se_draws": estimate.se_rows, "se_examples": estimate.se_columns, "se": estimate.se}
        interval = estimate.interval(0.95)
        if interval is not None:
            values["low"], values["high"] = interval
        for suffix, value in values.items():
            if value is not None:
                yield MetricValue(f"{self.name}_{suffix}", value, None, "percent")


class WorstConnectivityOptions(Options):
    """Starts, budget and correction of the search of `worst_connectivity`."""

    draws: int = Field(
        50, ge=1, le=100_000, description="draws to start from, the first of joint_connectivity's: evaluated once for both"
    )
    evaluations: int = Field(200, ge=0, le=100_000, description="points the search may try beyond those it starts from")
    correction: PluginChoice | None = correction_field()


class WorstConnectivity(CorrectedMetric):
    """The lowest q(λ) that a search of the simplex finds, in percent: at most 0, and at most the worst of its draws.

    The search starts from the draws, the vertices, the midpoints of edges and the centroid, and refines the lowest of them. A
    minimum over noisy values is biased downwards: it shows where to look, and is no estimate of the true minimum.
    """

    name, version = "worst_connectivity", 1
    title, symbol, better = "Worst connectivity", "min q", "higher"
    Options = WorstConnectivityOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the lowest q, then λ at that point, one value per member.

        The standard error is over examples at that point, and ignores the search. The value has no examples: the point was
        chosen by means of the same images, so it is no mean over images.
        """
        refuse_non_finite(ensemble.logits)
        options: WorstConnectivityOptions = self.options
        draws = dirichlet(ensemble.uniform(DRAWS, options.draws, ensemble.size))

        def q(points: np.ndarray) -> np.ndarray:
            blocks = excess_blocks(ensemble, points, options.correction)
            return np.concatenate([block.mean(axis=1) for block in blocks])

        point = worst_point(q, search_starts(draws), options.evaluations)
        (table,) = excess_blocks(ensemble, point[None], options.correction)
        error = statistics.standard_error(table[0])
        yield MetricValue(self.name, float(table[0].mean()), error, "percent", "higher")
        for member, share in enumerate(point):
            yield MetricValue(f"{self.name}_lambda/{member}", float(share))


class PairwiseConnectivityOptions(Options):
    """Number of points and correction of `pairwise_connectivity`."""

    points: int = Field(11, ge=3, le=1001, description="values of λ on each segment, evenly spaced, both ends included")
    correction: PluginChoice | None = correction_field()


class PairwiseConnectivity(CorrectedMetric):
    """q on the edges of the simplex, in percent: mean over the inner points of each pair's segment, then over pairs.

    Source: paper, figures 2a and 2b. The barrier is that of Entezari et al. 2022, on accuracy instead of loss.
    """

    name, version = "pairwise_connectivity", 1
    title, symbol, better = "Pairwise connectivity", "q̄₂", "higher"
    Options = PairwiseConnectivityOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean, the worst pair's mean, the mean barrier and the worst pair's, then the accuracy at all points."""
        refuse_non_finite(ensemble.logits)
        pairs = list(combinations(range(ensemble.size), 2))
        grid = np.arange(self.options.points) / (self.options.points - 1)
        means = np.zeros((max(len(pairs), 1), len(grid)))  # q of each pair and λ; 0 for a single member
        per_example = np.zeros(len(ensemble.labels))
        curves: list[MetricValue] = []
        for row, (i, j) in enumerate(pairs):
            points = np.zeros((len(grid), ensemble.size))
            points[:, i] = grid[::-1]
            points[:, j] = grid
            right = right_at(ensemble, points, self.options.correction)
            table = excess(right, points, ensemble.correct)  # (points, examples)
            means[row] = table.mean(axis=1)
            per_example += table[1:-1].mean(axis=0) / len(pairs)
            curves += _curve(f"pairwise_curve/{i}-{j}", grid, right)
        yield mean_over_examples(self.name, per_example, "percent", "higher")
        yield from self._extremes(means)
        yield from curves

    def _extremes(self, means: np.ndarray) -> Iterator[MetricValue]:
        """Yield the worst pair's mean, the mean barrier and the worst pair's barrier from q (pairs, points)."""
        barriers = np.abs(means.min(axis=1))  # the ends are included: q is 0 there, so no barrier is below 0
        yield MetricValue(f"{self.name}_worst_pair", float(means[:, 1:-1].mean(axis=1).min()), None, "percent", "higher")
        yield MetricValue("pairwise_barrier", float(barriers.mean()), None, "percent", "lower")
        yield MetricValue("pairwise_barrier_worst_pair", float(barriers.max()), None, "percent", "lower")
