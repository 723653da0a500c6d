"""Where the members lie in weight space: distances, inner products and angles between them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from harness import Metric, MetricValue

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble


class WeightDistance(Metric):
    """Euclidean distance between the parameters of two members, mean over pairs, with inner product and cosine.

    Buffers, such as running statistics, do not count. An alignment of all members that keeps their norms, as permutations do,
    has a smaller distance exactly if it has a larger inner product.
    """

    name, version = "weight_distance", 1
    title, symbol, better = "Weight distance", "‖Δθ‖", ""

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the mean distance of pairs, the mean inner product, and the mean cosine; 0, 0 and 1 for one member."""
        members = [_parameters(ensemble, member) for member in range(ensemble.size)]
        distances: list[float] = []
        products: list[float] = []
        cosines: list[float] = []
        for one, other in combinations(members, 2):
            distances.append(float(np.linalg.norm(one - other)))
            products.append(float(one @ other))
            norms = float(np.linalg.norm(one) * np.linalg.norm(other))
            cosines.append(products[-1] / max(norms, sys.float_info.min))
        yield MetricValue(self.name, float(np.mean(distances or [0])))
        yield MetricValue("weight_inner_product", float(np.mean(products or [0])))
        yield MetricValue("weight_cosine", float(np.mean(cosines or [1])))


def _parameters(ensemble: EvaluatedEnsemble, member: int) -> np.ndarray:
    """Return all parameters of a member, float64 (parameters,)."""
    point = np.zeros(ensemble.size)
    point[member] = 1
    flat = [parameter.detach().cpu().double().numpy().ravel() for parameter in ensemble.network_at(point).parameters()]
    return np.concatenate(flat)
