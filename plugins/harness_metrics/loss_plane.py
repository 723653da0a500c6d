"""Accuracy and loss on the plane through three members in weight space.

A point of the plane is θ_1 + x u + y v, where u is the direction from the first member to the third, and v that of the second
member's part orthogonal to u. Each is an affine combination Σ_i λ_i θ_i, with negative weights outside the triangle.
Source: Garipov et al. 2018, figure 1, and their code (`plane.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from harness import MetricValue, Options, PluginChoice
from harness_metrics.connectivity import CorrectedMetric, correction_field
from harness_metrics.finite import refuse_non_finite
from harness_metrics.sampling import mean_over_examples

if TYPE_CHECKING:
    from harness import EvaluatedEnsemble

_FLAT = 1e-6  # height of a triangle, as a fraction of its longest side, below which its members are on one line
_INSIDE = 1e-9  # rounding of a weight at the border of the triangle


@dataclass(frozen=True)
class Triangle:
    """Three members in their plane, in units of weight distance. The first is at (0, 0) and the third at (side, 0).

    The second is at (apex, height). All four numbers are finite, and side and height are above 0.
    """

    side: float
    apex: float
    height: float

    @property
    def corners(self) -> np.ndarray:
        """Positions (x, y) of the three members, (3, 2)."""
        return np.array([[0.0, 0.0], [self.apex, self.height], [self.side, 0.0]])

    def weights(self, positions: np.ndarray) -> np.ndarray:
        """Return the affine weights (points, 3) of the members at positions (points, 2); each row sums to 1."""
        second = positions[:, 1] / self.height
        third = (positions[:, 0] - second * self.apex) / self.side
        return np.stack([1 - second - third, second, third], axis=1)


def triangle(weights: np.ndarray) -> Triangle:
    """Return the triangle of three members' weights, float64 (3, size).

    Members on one line span no plane: the triangle is then equilateral, with sides of 1, and its points are still the affine
    combinations of the members.
    """
    to_second = weights[1] - weights[0]
    to_third = weights[2] - weights[0]
    side = float(np.linalg.norm(to_third))
    longest = max(side, float(np.linalg.norm(to_second)), float(np.linalg.norm(weights[2] - weights[1])))
    if side > _FLAT * longest:
        direction = to_third / side
        apex = float(to_second @ direction)
        height = float(np.linalg.norm(to_second - apex * direction))
        if height > _FLAT * longest:
            return Triangle(side, apex, height)
    return Triangle(1.0, 0.5, math.sqrt(3) / 2)


def grid(points: int, border: float) -> np.ndarray:
    """Return `points` fractions of a side of the triangle's bounding box, from −border to 1 + border."""
    return np.linspace(-border, 1 + border, points).round(9) + 0.0  # no 5e-17 for 0, and no −0


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return −ln softmax(logits)(label) in nats, float64 (examples,), from logits (examples, classes).

    It is infinite on an example with logits that are not finite.
    """
    finite = np.isfinite(logits).all(axis=1)
    shifted = np.where(finite[:, None], logits, 0.0).astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return np.where(finite, losses, np.inf)


class LossPlaneOptions(Options):
    """Members, grid and correction of `loss_plane`."""

    members: list[int] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="the three members, counted from 0; default: the first three; the last one stands for missing ones",
    )
    points: int = Field(15, ge=2, le=201, description="points along each side of the grid: points² networks are evaluated")
    border: float = Field(
        0.2, ge=0.0, le=2.0, description="how far the grid reaches beyond the triangle, as a fraction of the triangle's extent"
    )
    correction: PluginChoice | None = correction_field()


class LossPlane(CorrectedMetric):
    """The highest barrier of the loss within the triangle of three members, in nats, with accuracy and loss on their plane.

    The barrier at λ is the loss at Σ_i λ_i θ_i minus Σ_i λ_i times the loss of member i: it is 0 at the members, so the metric
    is at least 0. The loss is the mean cross-entropy on the test images.
    """

    name, version = "loss_plane", 1
    title, symbol, better = "Loss barrier on the plane", "ΔL", "lower"
    Options = LossPlaneOptions

    def check(self, members: int) -> None:
        """Raise `ValueError` unless the ensemble has the members that the option names, and they differ."""
        named = self.options.members
        if named is None:
            return
        if len(set(named)) < len(named):
            raise ValueError(f"members is {named}; name three different ones")
        for member in named:
            if not 0 <= member < members:
                raise ValueError(f"there is no member {member}; the ensemble has {members}, counted from 0")

    def measure(self, ensemble: EvaluatedEnsemble) -> Iterable[MetricValue]:
        """Return the barrier, the members' positions, accuracies and losses, then accuracy and loss at all grid points."""
        refuse_non_finite(ensemble.logits)
        self.check(ensemble.size)
        options: LossPlaneOptions = self.options
        chosen = options.members or [min(index, ensemble.size - 1) for index in range(3)]
        shape = triangle(_parameters(ensemble, chosen))
        members = [_Evaluated(ensemble.logits[member], ensemble.labels) for member in chosen]
        ends = np.array([member.loss for member in members])
        highest = 0.0
        values: list[MetricValue] = []
        for name, position in _positions(shape, options):
            (weights,) = shape.weights(position[None])
            found = self._evaluate(ensemble, chosen, weights)
            values += found.values("loss_plane_accuracy", "loss_plane_loss", name)
            if weights.min() >= -_INSIDE:
                highest = max(highest, found.loss - float(weights @ ends))
        yield MetricValue(self.name, highest, None, "nats", "lower")
        for index, (corner, member) in enumerate(zip(shape.corners, members, strict=True)):
            yield MetricValue(f"loss_plane_x/{index}", float(corner[0]))
            yield MetricValue(f"loss_plane_y/{index}", float(corner[1]))
            yield from member.values("loss_plane_member_accuracy", "loss_plane_member_loss", str(index))
        yield from values

    def _evaluate(self, ensemble: EvaluatedEnsemble, chosen: Sequence[int], weights: np.ndarray) -> _Evaluated:
        """Return the network at an affine combination of the three members. A member is not evaluated again."""
        point = np.zeros(ensemble.size)
        np.add.at(point, list(chosen), weights)
        vertex = np.flatnonzero(np.abs(point - 1) <= _INSIDE)
        if len(vertex) == 1 and np.abs(np.delete(point, vertex)).max(initial=0.0) <= _INSIDE:
            return _Evaluated(ensemble.logits[vertex[0]], ensemble.labels)
        (logits,) = ensemble.logits_at(point[None], correction=self.options.correction)
        return _Evaluated(logits, ensemble.labels)


class _Evaluated:
    """Accuracy (percent) and loss (nats) per example of a network with these logits (examples, classes)."""

    def __init__(self, logits: np.ndarray, labels: np.ndarray) -> None:
        finite = np.isfinite(logits).all(axis=1)
        self._right = 100.0 * ((logits.argmax(axis=1) == labels) & finite)
        self._losses = cross_entropy(logits, labels)
        self.loss = float(self._losses.mean())

    def values(self, accuracy: str, loss: str, place: str) -> Iterator[MetricValue]:
        """Yield both means as values of a place."""
        yield mean_over_examples(f"{accuracy}/{place}", self._right, "percent", "higher")
        yield MetricValue(f"{loss}/{place}", self.loss, None, "nats", "lower")


def _positions(shape: Triangle, options: LossPlaneOptions) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, position) of the grid's points. The name has the fractions of the bounding box: `0.1/-0.2`."""
    corners = shape.corners
    low = corners.min(axis=0)
    extent = corners.max(axis=0) - low
    fractions = grid(options.points, options.border)
    for vertical in fractions:
        for horizontal in fractions:
            yield f"{horizontal:.4g}/{vertical:.4g}", low + extent * (horizontal, vertical)


def _parameters(ensemble: EvaluatedEnsemble, members: Iterable[int]) -> np.ndarray:
    """Return the trainable weights of members as vectors, float64 (members, size), without running statistics."""
    vectors = []
    for member in members:
        network = ensemble.network_at(np.eye(ensemble.size)[member])
        flat = [parameter.detach().cpu().double().numpy().ravel() for parameter in network.parameters()]
        vectors.append(np.concatenate(flat))
    return np.stack(vectors)
