"""What a metric can ask of an ensemble: logits at any affine combination, weights, networks, splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import harness
import toys
from conftest import Lab
from harness import Split
from harness.plan.graph import Graph

GraphOf = Callable[..., Graph]


class Blurred(toys.Blobs):
    """Blobs with a second test split, half as bright."""

    name = "blobs"
    evaluation_splits = ("dark",)

    def load_split(self, name: str, root: Path) -> Split:
        _, test = self.load(root)
        return Split(test.images // 2, test.labels)


def measured(lab: Lab, graph_of: GraphOf, look: Callable[[harness.EvaluatedEnsemble], None], **changes: object) -> None:
    """Run a benchmark of toys whose metric looks at the ensemble."""

    class Look(harness.Metric):
        name = "look"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Iterable[harness.MetricValue]:
            look(ensemble)
            return [harness.MetricValue("look", 1.0)]

    catalogue = toys.catalogue(("metric", Look), ("dataset", Blurred))
    graph = graph_of(catalogue, **{"methods": ["deep"], "members": 2, "metrics": ["look"], **changes})
    state = lab.run(graph, catalogue)
    assert not state.failures, state.failures


def test_logits_between_and_beyond_members(lab: Lab, graph_of: GraphOf) -> None:
    """At a member they are the member's; elsewhere those of the network with the combined weights, on any split."""

    def look(ensemble: harness.EvaluatedEnsemble) -> None:
        np.testing.assert_array_equal(ensemble.logits_at(np.eye(2)), ensemble.logits)
        points = np.array([[0.25, 0.75], [1.5, -0.5]])
        found = ensemble.logits_at(points, split="train")
        train = ensemble.split("train")
        images = (train.images.float() / 255 - 0.5) / 0.25
        states = [ensemble.state_dict(member) for member in range(2)]
        network = ensemble.network_at([1.0, 0.0])
        for point, logits in zip(points, found, strict=True):
            combined = {}
            for name, tensor in states[0].items():
                combined[name] = point[0] * tensor + point[1] * states[1][name] if tensor.is_floating_point() else tensor
            network.load_state_dict(combined)
            with torch.no_grad():
                expected = network(images).numpy()
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)

    measured(lab, graph_of, look)


def test_loss_between_members(lab: Lab, graph_of: GraphOf) -> None:
    """The example of the docstring is the cross-entropy of the averaged network."""

    def look(ensemble: harness.EvaluatedEnsemble) -> None:
        logits = ensemble.logits_at(np.array([[0.5, 0.5]]))[0]
        loss = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), ensemble.labels]).mean()
        network = ensemble.network_at(np.array([0.5, 0.5]))
        test = ensemble.split("test")
        with torch.no_grad():
            expected = F.cross_entropy(network((test.images.float() / 255 - 0.5) / 0.25), test.labels)
        assert float(loss) == pytest.approx(float(expected), rel=1e-4)

    measured(lab, graph_of, look)


def test_network_and_weights_are_copies(lab: Lab, graph_of: GraphOf) -> None:
    """A metric may change what it was given; the next one sees the ensemble as it is."""

    def look(ensemble: harness.EvaluatedEnsemble) -> None:
        before = ensemble.logits_at(np.array([[0.5, 0.5]]))
        network = ensemble.network_at([0.5, 0.5])
        assert not network.training
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        for tensor in ensemble.state_dict(0).values():
            tensor.zero_()
        np.testing.assert_array_equal(ensemble.logits_at(np.array([[0.5, 0.5]])), before)

    measured(lab, graph_of, look)


def test_further_splits_of_a_data_set(lab: Lab, graph_of: GraphOf) -> None:
    """A data set may define splits for metrics; they are loaded when one asks for them."""

    def look(ensemble: harness.EvaluatedEnsemble) -> None:
        dark, test = ensemble.split("dark"), ensemble.split("test")
        assert torch.equal(dark.images, test.images // 2)
        on_dark = ensemble.logits_at(np.eye(2), split="dark")
        assert on_dark.shape == ensemble.logits.shape
        assert not np.array_equal(on_dark, ensemble.logits)
        assert ensemble.logits_at(np.zeros((0, 2)), split="dark").shape == (0, 64, 4)

    measured(lab, graph_of, look)


def test_mistakes_are_named(lab: Lab, graph_of: GraphOf) -> None:
    """Unknown splits, members and points that do not sum to 1."""

    def look(ensemble: harness.EvaluatedEnsemble) -> None:
        with pytest.raises(ValueError, match=r"^unknown split 'drak'; did you mean 'dark'"):
            ensemble.split("drak")
        with pytest.raises(ValueError, match="member is 2; from 0 to 1"):
            ensemble.state_dict(2)
        with pytest.raises(ValueError, match=r"point 1 sums to 0\.5; the weights of members must sum to 1"):
            ensemble.logits_at(np.array([[0.5, 0.5], [0.25, 0.25]]))
        with pytest.raises(ValueError, match=r"points have shape \(1, 3\); \(points, 2\) is expected"):
            ensemble.logits_at(np.ones((1, 3)) / 3)

    measured(lab, graph_of, look)
