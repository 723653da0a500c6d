"""The checks of captured steps that run on a GPU, run here with recorded graphs."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

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


class RelabelledGraphs(RecordedGraphs):
    """Recorded graphs that change labels (n,) before the third replay."""

    def __init__(self, labels: Tensor) -> None:
        super().__init__()
        self._labels = labels
        self._selections = 0

    def selected(self) -> AbstractContextManager[None]:
        self._selections += 1
        if self._selections == 4:  # the first one is that of the capture
            self._labels.add_(1).remainder_(4)
        return super().selected()


def test_error_of_a_replay_that_does_something_else() -> None:
    """A gradient that is another one in some replays is found, with its sibling."""
    trainers = started(perceptrons("cpu"), 3)
    trainers[1].state.labels = trainers[1].labels.clone()
    errors = largest_errors(trainers, RelabelledGraphs(trainers[1].state.labels), 8)
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
