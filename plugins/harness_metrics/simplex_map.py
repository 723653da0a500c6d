"""q(λ) over the simplex of an ensemble: on a regular lattice for up to three members, at random draws for more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from harness import MetricValue, Options, PluginChoice, statistics
from harness_metrics.connectivity import DRAWS, CorrectedMetric, correction_field, dirichlet, excess_blocks
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble

_LATTICE_MEMBERS = 3
"""The largest ensemble whose simplex a picture can show as a whole."""


def lattice(members: int, steps: int) -> np.ndarray:
    """Return the points of the simplex whose weights are multiples of 1/steps, (points, members), for at most three members.

    Three members have (steps + 1)(steps + 2)/2 points.
    """
    points = []
    for first in product(range(steps, -1, -1), repeat=members - 1):
        if sum(first) <= steps:
            points.append([*first, steps - sum(first)])
    return np.array(points, dtype=np.float64) / steps


def trapezoid_weights(points: np.ndarray) -> np.ndarray:
    """Return the weight of each point of a lattice in the mean over the simplex (points,); they sum to 1.

    Relative to a point inside, that of a point on an edge of a triangle is ½ and that of a corner 1/6; the end of a segment has
    ½. These are the weights of linear interpolation between the points.
    """
    members = points.shape[1]
    positive = np.count_nonzero(points, axis=1)
    relative = {1: [1.0], 2: [0.5, 1.0], 3: [1 / 6, 0.5, 1.0]}[members]
    weights = np.array(relative)[positive - 1]
    return weights / weights.sum()


class SimplexMapOptions(Options):
    """Points and correction of `simplex_map`."""

    steps: int = Field(10, ge=2, le=200, description="up to three members: steps of the lattice along each edge")
    draws: int = Field(
        50,
        ge=1,
        le=50_000,
        description="more members: draws λ ~ Dir(1), the first of joint_connectivity's: evaluated once for both",
    )
    correction: PluginChoice | None = correction_field()


class SimplexMap(CorrectedMetric):
    """The mean of q(λ) over the simplex, in percent, with q at each of its points: a ternary map for three members.

    For more than three members the points are the draws of `joint_connectivity`, and the mean is its value at equal `draws`.
    """

    name, version = "simplex_map", 1
    title, symbol, better = "Connectivity of the simplex", "q̄ map", "higher"
    Options = SimplexMapOptions

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean, then q at every point, named `simplex_map_q/<λ_1>/<λ_2>/…`."""
        refuse_non_finite(ensemble.logits)
        if ensemble.size <= _LATTICE_MEMBERS:
            yield from self._on_lattice(ensemble)
        else:
            yield from self._at_draws(ensemble)

    def _on_lattice(self, ensemble: EvaluatedEnsemble) -> Iterator[MetricValue]:
        points = lattice(ensemble.size, self.options.steps)
        weights = trapezoid_weights(points)
        means = []
        examples = np.zeros(len(ensemble.labels))
        first = 0
        for block in excess_blocks(ensemble, points, self.options.correction):
            means.append(block.mean(axis=1))
            examples += weights[first : first + len(block)] @ block
            first += len(block)
        yield mean_over_examples(self.name, examples, "percent", "higher")
        yield from _map(points, np.concatenate(means))

    def _at_draws(self, ensemble: EvaluatedEnsemble) -> Iterator[MetricValue]:
        points = dirichlet(ensemble.uniform(DRAWS, self.options.draws, ensemble.size))
        estimate = statistics.crossed_mean(excess_blocks(ensemble, points, self.options.correction))
        yield MetricValue(self.name, estimate.mean, estimate.se_rows, "percent", "higher", estimate.columns)
        yield from _map(points, estimate.rows)


def _map(points: np.ndarray, q: np.ndarray) -> Iterator[MetricValue]:
    """Yield q at each point (points, members); six digits of λ tell any two draws apart."""
    for point, value in zip(points, q, strict=True):
        place = "/".join(f"{share:.6g}" for share in point)
        yield MetricValue(f"simplex_map_q/{place}", float(value), None, "percent", "higher")
