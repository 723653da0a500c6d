"""An ensemble as metrics see it: predictions, and the network anywhere between the members. Importing this costs no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from harness import streams

BatchNorm = Literal["recompute", "interpolate"]


class InterpolatedWeights(Protocol):
    """A network that can be set to any convex combination of the members."""

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network keeps running statistics, which no combination of weights gets right."""
        ...

    def correct(self, point: np.ndarray, labels: np.ndarray, batchnorm: BatchNorm) -> np.ndarray:
        """Return where the network at a point (members,) is right: bool (examples,)."""
        ...


class EvaluatedEnsemble:
    """An ensemble as metrics see it: its members' predictions on the test split, and the network anywhere between them.

    All metrics are shown one ensemble: its arrays cannot be written to.
    """

    def __init__(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        seed: int,
        interpolated: Callable[[], InterpolatedWeights],
    ) -> None:
        self.logits = _shared(logits)
        """float32 (members, examples, classes)."""
        self.labels = _shared(labels)
        """int64 (examples,)."""
        self.seed = seed
        self._make_interpolated = interpolated
        self._known: dict[tuple[str, bytes], np.ndarray] = {}

    @property
    def size(self) -> int:
        """M, the number of members."""
        return self.logits.shape[0]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[2]

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """float64 (members, examples, classes)."""
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=2, keepdims=True)
        return _shared(shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True)))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float64 (members, examples, classes)."""
        return _shared(np.exp(self.log_probabilities))

    @cached_property
    def correct(self) -> np.ndarray:
        """Which members are right on which examples: bool (members, examples)."""
        return _shared(self.logits.argmax(axis=2) == self.labels)

    @cached_property
    def interpolated(self) -> InterpolatedWeights:
        """The network between the members; made when a metric first asks for it."""
        return self._make_interpolated()

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network keeps running statistics (BatchNorm's, say)."""
        return self.interpolated.has_running_statistics

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Return numbers in [0, 1), float64, a pure function of the seed and the purpose.

        Every method of a benchmark gets the same, so that methods are compared on the same draws; and fewer numbers of one
        purpose are the first of more.
        """
        import torch

        counters = torch.arange(int(np.prod(shape)))
        high, low = (streams.uniform(streams.key("metric", self.seed, purpose, i), counters).double() for i in range(2))
        return (high + low * 2.0**-24).reshape(shape).numpy()

    def correct_at(self, points: np.ndarray, batchnorm: BatchNorm = "recompute") -> np.ndarray:
        """Say where the network at Σ_i points[p, i] θ_i is right: bool (points, examples).

        Each point is evaluated once in this object's life. Running statistics of BatchNorm are recomputed on training images
        at every point, or interpolated as the weights are.
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.size:
            raise ValueError(f"points have shape {points.shape}; (points, {self.size}) is expected")
        rows = []
        for point in points:
            key = (batchnorm, point.tobytes())
            if key not in self._known:
                self._known[key] = self.interpolated.correct(point, self.labels, batchnorm)
            rows.append(self._known[key])
        return np.stack(rows) if rows else np.zeros((0, len(self.labels)), dtype=bool)


def _shared(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
