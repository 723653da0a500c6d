"""The input of a metric: predictions of an ensemble's members, and the network at interpolated weights.

Importing this module does not import torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness import streams
from harness.api.choice import PluginChoice
from harness.api.plugin import Plugin
from harness.api.predictions import Predictions
from harness.api.task import canonical_json

if TYPE_CHECKING:
    from torch import nn

    from harness.api.data import Split, StateDict

_SUM_TOLERANCE = 1e-6


class InterpolatedWeights(Protocol):
    """A network whose weights can be any affine combination of the members' weights."""

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network has running statistics, as BatchNorm has. Interpolating them does not give the right ones."""
        ...

    def correct(self, point: np.ndarray, labels: np.ndarray, correction: PluginChoice | None) -> np.ndarray:
        """Return on which test images the network with weights Σ_i point[i] θ_i is correct, bool (examples,).

        `point` is float64 (members,), with sum 1. `labels` are int64 (examples,).
        """
        ...

    def logits(self, point: np.ndarray, split: str, correction: PluginChoice | None) -> np.ndarray:
        """Return the logits of the network with weights Σ_i point[i] θ_i on a split, float32 (examples, classes)."""
        ...

    def module(self, point: np.ndarray, correction: PluginChoice | None) -> nn.Module:
        """Return a copy of the network with weights Σ_i point[i] θ_i, in evaluation mode."""
        ...

    def state_dict(self, member: int) -> StateDict:
        """Return a copy of a member's parameters and buffers, on the CPU."""
        ...

    def split(self, name: str) -> Split:
        """Return a split of the data set: test, train, or another one that the data set defines."""
        ...


@dataclass(frozen=True)
class DerivationRecord:
    """How a derivation made members: its name, how long it took, in seconds, and the facts that it returned."""

    derivation: str
    seconds: float
    facts: Mapping[str, Any]


EvaluationSource = Callable[[Plugin], Iterator[tuple[str, Predictions]]]
"""Returns the predictions on the splits of an evaluation set that a metric's options chose, one after the other."""


class EvaluatedEnsemble(Predictions):
    """A trained ensemble, evaluated on the test split. M is the number of members θ_1, …, θ_M.

    All metrics of a cell share one instance, so its arrays are read-only. `harness.testing.evaluated_ensemble` makes
    one for tests.
    """

    def __init__(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        seed: int,
        interpolated: Callable[[], InterpolatedWeights],
        derivations: Callable[[], tuple[DerivationRecord, ...]] = tuple,
    ) -> None:
        super().__init__(logits, labels)
        self.seed = seed
        """The seed of the cell."""
        self._make_interpolated = interpolated
        self._read_derivations = derivations
        self._known: dict[tuple[str, bytes], np.ndarray] = {}
        self._evaluations: EvaluationSource = _no_evaluations

    def with_evaluations(self, source: EvaluationSource) -> EvaluatedEnsemble:
        """Return the same ensemble, with its predictions on the evaluation sets that a metric chose. Caches are shared."""
        ensemble = copy.copy(self)
        ensemble._evaluations = source
        return ensemble

    def predictions_on(self, evaluation_set: Plugin) -> Iterator[tuple[str, Predictions]]:
        """Yield the name of each split of an evaluation set, and the members' predictions on its images.

        `evaluation_set` is one that an option of the metric chose: `self.chosen["splits"]`. The networks are not evaluated
        again: all metrics read the same stored predictions. Raise `ValueError` for another set.

        The accuracy of the averaged probabilities on each split, in percent:

            for name, split in ensemble.predictions_on(self.chosen["splits"]):
                accuracy = 100 * (split.probabilities.mean(axis=0).argmax(axis=1) == split.labels).mean()
        """
        return self._evaluations(evaluation_set)

    @cached_property
    def interpolated(self) -> InterpolatedWeights:
        """The network at interpolated weights. It is built when a metric first uses it."""
        return self._make_interpolated()

    @cached_property
    def derivations(self) -> tuple[DerivationRecord, ...]:
        """How the members that derivations made were made: one record per computation, in the order of the members.

        Trained members have none. A metric that uses it sets `needs_derivations`.
        """
        return self._read_derivations()

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network has running statistics, as BatchNorm has."""
        return self.interpolated.has_running_statistics

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        """Return random numbers in [0, 1), float64 of the given shape.

        They are a pure function of the seed and `purpose`, a name that the metric chooses. All methods of a benchmark
        get equal numbers, so methods are compared on the same draws. The first n of more than n numbers are equal to n
        numbers of the same purpose.
        """
        import torch

        counters = torch.arange(int(np.prod(shape)))
        high = streams.uniform(streams.key("metric", self.seed, purpose, 0), counters).double()
        low = streams.uniform(streams.key("metric", self.seed, purpose, 1), counters).double()
        return (high + low * 2.0**-24).reshape(shape).numpy()

    def correct_at(self, points: np.ndarray, correction: PluginChoice | None = None) -> np.ndarray:
        """Return on which examples networks with interpolated weights are correct, bool (points, examples).

        `points` are (points, members). Row p stands for the network with weights Σ_i points[p, i] θ_i; its entries are
        at least 0, and their sum is 1. `correction` is the value of a metric's option: a registered correction, or one
        with options. By default, running statistics are recomputed on training images at every point, if the network
        has any. A result is cached: evaluating a point again costs nothing. Raise `ValueError` if `points` have another
        shape.

        The accuracy, in percent, at the mean of the members' weights:

            center = np.full((1, ensemble.size), 1 / ensemble.size)
            accuracy = 100 * ensemble.correct_at(center).mean()
        """
        points = np.ascontiguousarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.size:
            raise ValueError(f"points have shape {points.shape}; (points, {self.size}) is expected")
        rows = []
        name = canonical_json(correction)
        for point in points:
            key = (name, point.tobytes())
            if key not in self._known:
                self._known[key] = self.interpolated.correct(point, self.labels, correction)
            rows.append(self._known[key])
        if not rows:
            return np.zeros((0, len(self.labels)), dtype=bool)
        return np.stack(rows)

    def logits_at(self, points: np.ndarray, split: str = "test", correction: PluginChoice | None = None) -> np.ndarray:
        """Return the logits of networks with combined weights, float32 (points, examples, classes). Nothing is cached.

        `points` are as for `correct_at`, but entries may be negative or above 1: only their sum must be 1. `split` is
        "test", "train" (without augmentation), or another split of the data set. Raise `ValueError` for other points or
        splits.

        The mean cross-entropy halfway between the first two members of two, in nats:

            logits = ensemble.logits_at(np.array([[0.5, 0.5]]))[0]
            loss = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), ensemble.labels]).mean()
        """
        points = self._checked(points)
        logits = [self.interpolated.logits(point, split, correction) for point in points]
        if not logits:
            return np.zeros((0, len(self.split(split).labels), self.num_classes), dtype=np.float32)
        return np.stack(logits)

    def network_at(self, point: np.ndarray, correction: PluginChoice | None = None) -> nn.Module:
        """Return the network with weights Σ_i point[i] θ_i, `point` (members,) with sum 1, in evaluation mode.

        It is a copy on the run's device, which the metric may change. Its input is normalized images.
        """
        (checked,) = self._checked(np.asarray(point, dtype=np.float64)[None])
        return self.interpolated.module(checked, correction)

    def state_dict(self, member: int) -> StateDict:
        """Return a copy of a member's parameters and buffers by name, on the CPU. `member` is an index from 0."""
        if not 0 <= member < self.size:
            raise ValueError(f"member is {member}; from 0 to {self.size - 1}")
        return self.interpolated.state_dict(member)

    def split(self, name: str = "test") -> Split:
        """Return the images and labels of a split: "test", "train", or another one that the data set defines.

        Do not change them. Raise `ValueError` for an unknown name, with the known ones.
        """
        return self.interpolated.split(name)

    def _checked(self, points: np.ndarray) -> np.ndarray:
        """Return points as float64 (points, members); refuse other shapes, and points that do not sum to 1."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.size:
            raise ValueError(f"points have shape {points.shape}; (points, {self.size}) is expected")
        sums = points.sum(axis=1)
        wrong = np.flatnonzero(~(np.abs(sums - 1) <= _SUM_TOLERANCE))
        if len(wrong):
            raise ValueError(f"point {wrong[0]} sums to {sums[wrong[0]]:g}; the weights of members must sum to 1")
        return points


def _no_evaluations(evaluation_set: Plugin) -> Iterator[tuple[str, Predictions]]:
    raise ValueError(f"evaluation set '{evaluation_set.full_name}': no option of this metric names it")
