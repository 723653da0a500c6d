"""Captured steps against eager ones, with graphs that are recorded on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import Recipe
from harness.training.cuda_graph import NotCapturable
from harness_basin.distillation import Distillation, DistillationOptions
from siblings import Family
from training.captured import captured, copies, eager, equal, started, take
from training.drawing_layers import DRAWING_LAYERS, started_with
from training.recorded_graphs import RecordedGraphs


@pytest.mark.parametrize("kind", ["perceptron", "resnet20", "vit"])
def test_capture_leaves_the_state_unchanged(kind: str) -> None:
    """After warm-up, capture and comparison, weights, memory, counters and sums are what they were, to the bit."""
    options = {"batchnorm": True} if kind == "perceptron" else {}
    trainers = started(Family(kind, Recipe(batch_size=48, optimizer="adam"), **options))
    before = copies(trainers)
    captured(trainers, RecordedGraphs())
    assert equal(copies(trainers), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "optimizer", "options"),
    [("perceptron", "adam", {"batchnorm": True}), ("resnet20", "sgd", {}), ("vit", "adamw", {})],
)
def test_replays_equal_eager_steps(kind: str, optimizer: str, options: dict[str, Any], precision: str) -> None:
    """Replays with each step's inputs move siblings as eager steps do, beyond the end of an epoch."""
    recipe = Recipe(batch_size=48, optimizer=optimizer, learning_rate=0.01, precision=precision)
    family = Family(kind, recipe, distilled=True, **options)
    replayed, reference = started(family), started(family)
    moved = take(replayed, captured(replayed, RecordedGraphs()), 6)
    expected = take(reference, eager(reference), 6)
    assert float((moved - expected).norm() / expected.norm()) < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet20", "vit"])
def test_compiled_step_equals_the_eager_step(kind: str) -> None:
    """Traced by the compiler, dropout included, a group takes the eager steps; siblings share one compiled graph."""
    family = Family(kind, Recipe(batch_size=48, optimizer="adam", learning_rate=0.001))
    replayed, reference = started(family), started(family)
    graphs = RecordedGraphs()
    moved = take(replayed, captured(replayed, graphs, compiled=True), 3)
    expected = take(reference, eager(reference), 3)
    assert float((moved - expected).norm() / expected.norm()) < 1e-2
    assert len(graphs.compiled) == 1


@pytest.mark.parametrize("teacher_view", ["augmented", "plain"])
def test_teacher_is_compiled_with_its_student(teacher_view: str) -> None:
    """Both forward passes are compiled, one graph for all students and one for all teachers; the steps are the eager ones."""
    family = Family("perceptron", Recipe(batch_size=48), distilled=True, dropout=0.3)
    replayed, reference = started(family), started(family)
    for trainer in (*replayed, *reference):
        trainer.state.objective = Distillation(DistillationOptions(beta=0.3, teacher_view=teacher_view))
    graphs = RecordedGraphs()
    moved = take(replayed, captured(replayed, graphs, compiled=True), 3)
    expected = take(reference, eager(reference), 3)
    assert float((moved - expected).norm() / expected.norm()) < 1e-3
    assert len(graphs.compiled) == 2


def test_ten_shapes_are_compiled_in_one_process() -> None:
    """The compiler's limit of eight variants of one forward pass does not hold."""
    graphs = RecordedGraphs()
    for width in range(3, 13):
        captured(started(Family("perceptron", Recipe(batch_size=16), width=width), 1), graphs, compiled=True)
    assert len(graphs.compiled) == 10


def test_forward_pass_that_is_not_compiled_is_noticed() -> None:
    """With a disabled compiler, the capture fails instead of being called compiled."""
    torch.compiler.set_stance("force_eager")
    try:
        with pytest.raises(NotCapturable, match="torch's compiler did not compile the forward pass, and ran it as it is"):
            captured(started(Family("perceptron", Recipe(batch_size=16)), 1), RecordedGraphs(), compiled=True)
    finally:
        torch.compiler.set_stance("default")


def test_siblings_run_on_streams_of_their_own() -> None:
    """Each sibling's stream waits for the caller's before its step, and the caller's waits for all of them afterwards."""
    trainers = started(Family("perceptron", Recipe(batch_size=16)), 3)
    graphs = RecordedGraphs()
    captured(trainers, graphs)
    fork = [(f"stream {number}", "caller") for number in (1, 2, 3)]
    join = [("caller", f"stream {number}") for number in (1, 2, 3)]
    assert graphs.waits[:6] == fork + join
    assert graphs.waits == (fork + join) * (len(graphs.waits) // 6)
    assert graphs.current_stream().name == "caller"


class BakedIn:
    """An augmenter and an optimizer that use constants instead of some inputs while their calls are recorded."""

    def __init__(self, trainer: Any, graphs: RecordedGraphs, baked: str) -> None:
        self.memory = trainer.state.optimizer.memory
        self._augmenter = trainer.state.augmenter
        self._optimizer = trainer.state.optimizer
        self._graphs = graphs
        self._baked = baked

    def __call__(self, indices: Tensor, key: int | Tensor) -> Tensor:
        if self._bakes("indices"):
            indices = torch.arange(len(indices))
        if self._bakes("augmentation"):
            key = 1
        return self._augmenter(indices, key)

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        self._optimizer.step(parameters, gradient, 0.1 if self._bakes("rate") else rate, count)

    def _bakes(self, name: str) -> bool:
        return self._graphs.recording and self._baked in (name, "all")


@pytest.mark.parametrize("baked", ["indices", "augmentation", "rate", "all"])
def test_graph_with_a_baked_in_input_is_discarded(baked: str) -> None:
    """A replay that does not read an input, but repeats a constant of the capture, is refused; the state is restored."""
    family = Family("resnet20", Recipe(batch_size=16, augmentation={"crop_padding": 8, "brightness": 1.0}, weight_decay=0.0))
    trainers = started(family, 1)
    graphs = RecordedGraphs()
    double = BakedIn(trainers[0], graphs, baked)
    trainers[0].state.augmenter = double
    trainers[0].state.optimizer = double
    before = copies(trainers)
    with pytest.raises(NotCapturable, match="its replay is not the step: the gradient is off by"):
        captured(trainers, graphs)
    assert equal(copies(trainers), before)


class Multinomial(nn.Module):
    """Draws with an operation that has no replacement."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.multinomial(torch.ones(5), 1).to(x.dtype)


@pytest.mark.parametrize("layer", DRAWING_LAYERS)
def test_network_that_draws_is_captured(layer: str) -> None:
    """Siblings that drop paths, values or channels, or add noise, replay eager steps; each draws numbers of its own."""
    family = Family("perceptron", Recipe(batch_size=24))
    replayed, reference = started_with(family, layer), started_with(family, layer)
    step = captured(replayed, RecordedGraphs())
    assert all(trainer.state.draws.found for trainer in replayed)
    moved = take(replayed, step, 6)
    expected = take(reference, eager(reference), 6)
    assert float((moved - expected).norm() / expected.norm()) < 1e-3


def test_network_that_draws_is_not_compiled() -> None:
    """The compiler cannot trace through the replacement of draws; the error says so before anything is compiled."""
    graphs = RecordedGraphs()
    with pytest.raises(NotCapturable, match=r"the network draws random numbers other than nn\.Dropout's"):
        captured(started_with(Family("perceptron", Recipe(batch_size=16)), "drop path"), graphs, compiled=True)
    assert graphs.compiled == []


class ReplacedBuffer(nn.Module):
    """Counts its passes in a buffer that each pass replaces by a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes = self.passes + 1
        return x


class ReadValue(nn.Module):
    """Reads a value of the batch back from the device."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 if float(x.detach().sum()) else 2)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (Multinomial, NotCapturable, "the network draws from a generator with multinomial"),
        (ReplacedBuffer, NotCapturable, "the network replaces a buffer by a new tensor in its forward pass"),
        (ReadValue, RuntimeError, "a value was read during the capture"),
    ],
)
def test_network_that_a_graph_cannot_hold_is_refused(layer: type[nn.Module], error: type[Exception], message: str) -> None:
    """What a replay could not do again is an error of the capture, and the state is restored."""
    family = Family("perceptron", Recipe(batch_size=16))
    trainer, start = family.sibling(0, nn.Sequential(*family.module(0), layer()))
    trainer.load(start)
    before = copies([trainer])
    with pytest.raises(error, match=message):
        captured([trainer], RecordedGraphs())
    assert equal(copies([trainer]), before)
