"""A toy ensemble for the tests of metrics: given logits, and an analytic accuracy over weight space."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

import harness
from harness import EvaluationSet, Predictions
from metrics.made_metrics import made

Accuracy = Callable[[np.ndarray], np.ndarray]


class LinearNetwork:
    """A network whose weights are its logits: those at an affine combination are the combination of the members' logits."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def parameters(self) -> list[torch.Tensor]:
        return [torch.tensor(self.weights)]


class ToyEnsemble:
    """The interface of `EvaluatedEnsemble`, without networks.

    Each example has a threshold in [0, 1]; the network at λ is right on it if `accuracy(λ)` exceeds the threshold. The accuracy
    over n examples is then `accuracy(λ)` up to 1 / n.
    """

    def __init__(self, logits: np.ndarray, labels: np.ndarray, accuracy: Accuracy | None = None, seed: int = 0) -> None:
        self.logits = np.asarray(logits, dtype=np.float32)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.size, _, self.num_classes = self.logits.shape
        self.seed = seed
        self.has_running_statistics = False
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=2, keepdims=True)
        self.log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=2, keepdims=True))
        self.probabilities = np.exp(self.log_probabilities)
        self.correct = self.logits.argmax(axis=2) == self.labels
        self.accuracy = accuracy
        self.evaluated: list[np.ndarray] = []  # all points that were evaluated, with duplicates
        self.corrections: list[object] = []  # of each call
        self.derivations: tuple[harness.DerivationRecord, ...] = ()

    @classmethod
    def of_accuracy(cls, accuracy: Accuracy, members: int, examples: int = 1000, seed: int = 0) -> ToyEnsemble:
        """Return an ensemble whose members, too, are right where `accuracy` exceeds the threshold."""
        ensemble = cls(np.zeros((members, examples, 2)), np.zeros(examples), accuracy, seed)
        ensemble.correct = ensemble._right(np.eye(members))
        return ensemble

    def _right(self, points: np.ndarray) -> np.ndarray:
        assert self.accuracy is not None
        thresholds = (np.arange(len(self.labels)) + 0.5) / len(self.labels)
        return self.accuracy(points)[:, None] > thresholds

    def correct_at(self, points: np.ndarray, correction: object = None) -> np.ndarray:
        assert points.shape[1] == self.size
        assert (points >= 0).all()
        assert np.abs(points.sum(axis=1) - 1).max() < 1e-12
        self.evaluated += list(points)
        self.corrections.append(correction)
        return self._right(points)

    def logits_at(self, points: np.ndarray, split: str = "test", correction: object = None) -> np.ndarray:
        assert np.abs(points.sum(axis=1) - 1).max() < 1e-9
        return np.tensordot(points, self.logits, axes=1).astype(np.float32)

    def network_at(self, point: np.ndarray) -> LinearNetwork:
        return LinearNetwork(point @ self.logits.reshape(self.size, -1))

    def predictions_on(self, evaluation_set: EvaluationSet) -> Iterator[tuple[str, Predictions]]:
        labels = np.zeros_like(self.labels) if evaluation_set.out_of_distribution else self.labels
        for name, scale in (("mild", 0.5), ("strong", 0.1)):
            yield name, Predictions(np.roll(scale * self.logits, 1, axis=2), labels)

    def uniform(self, purpose: str, *shape: int) -> np.ndarray:
        key = hashlib.sha256(f"{self.seed} {purpose}".encode()).digest()
        return np.random.default_rng(list(key)).random(shape)


@pytest.fixture(scope="session")
def toy() -> type[ToyEnsemble]:
    """Return the class of toy ensembles."""
    return ToyEnsemble


@pytest.fixture(scope="session")
def random_toy() -> Callable[..., ToyEnsemble]:
    """Return a function that makes an ensemble of random logits and labels, with accuracy 1/2 between the members."""

    def make(seed: int, members: int = 3, examples: int = 20, num_classes: int = 4, scale: float = 2.0) -> ToyEnsemble:
        generator = np.random.default_rng(seed)
        logits = scale * generator.standard_normal((members, examples, num_classes))
        labels = generator.integers(num_classes, size=examples)
        return ToyEnsemble(logits, labels, lambda points: np.full(len(points), 0.5))

    return make


@pytest.fixture(scope="session")
def measure() -> Callable[..., dict[str, float]]:
    """Return a function that gives a metric's values by name; names must differ, and the main value must be the first."""

    def run(metric: type, ensemble: ToyEnsemble, **options: object) -> dict[str, float]:
        values = list(made(metric, **options).measure(ensemble))
        assert values[0].metric == metric.name
        named = {value.metric: value.value for value in values}
        assert len(named) == len(values)
        return named

    return run
