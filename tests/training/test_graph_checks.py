"""The checks of captured steps that run on a GPU, run here with recorded graphs."""

from __future__ import annotations

import pytest
import torch

from harness import Recipe
from siblings import Family
from training import poisoned_capture
from training.captured import captured, started
from training.device_cases import RECIPES, Siblings
from training.graph_checks import (
    Draws,
    Reads,
    WhileCapturing,
    backend_of,
    distance_of_replays,
    largest_errors,
    perceptrons,
    with_layer,
)
from training.recorded_graphs import RecordedGraphs


def test_replays_end_where_eager_steps_do() -> None:
    """The distance is that of rounding errors."""
    assert distance_of_replays(Siblings("batchnorm", RECIPES["adam"], teacher_view="plain"), backend_of("cpu")) < 1e-3


def test_errors_of_replays() -> None:
    """They are those of rounding for every sibling and input."""
    trainers = started(Family("perceptron", Recipe(batch_size=16), batchnorm=True), 3)
    errors = largest_errors(trainers, backend_of("cpu"), 8)
    assert len(errors) == 3
    assert max(errors) < 1e-5


def test_error_of_a_replay_that_does_something_else() -> None:
    """A gradient that differs in one replay is found, with its sibling."""
    graphs = RecordedGraphs()
    trainers = started(perceptrons("cpu"), 3)
    labels = trainers[1].labels
    calls = iter(range(1000))

    class Trembling(RecordedGraphs):
        """Changes the labels of the second sibling during some replays after the comparison."""

        def selected(self):  # type: ignore[no-untyped-def]
            if next(calls) == 4:
                trainers[1].state.labels.add_(1).remainder_(4)
            return super().selected()

    graphs = Trembling()
    trainers[1].state.labels = labels.clone()
    errors = largest_errors(trainers, graphs, 8)
    assert errors[1] > 0.1
    assert max(errors[0], errors[2]) < 1e-5


def test_layer_that_acts_while_it_is_captured() -> None:
    """Its function is called in the capture, not in eager steps."""
    graphs = RecordedGraphs()
    called: list[bool] = []
    captured(with_layer(perceptrons("cpu"), WhileCapturing(graphs, lambda: called.append(graphs.recording)), 2), graphs)
    assert called == [True]


def test_reading_layer() -> None:
    """It cannot be captured."""
    with pytest.raises(RuntimeError):
        captured(with_layer(perceptrons("cpu"), Reads()), backend_of("cpu"))


def test_drawing_layer() -> None:
    """Its pass differs between two draws."""
    torch.manual_seed(0)
    ones = torch.ones(50)
    assert not torch.equal(Draws()(ones), Draws()(ones))


def test_poisoned_capture() -> None:
    """With recorded graphs, the script ends without an error."""
    poisoned_capture.main("cpu")
