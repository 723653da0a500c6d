"""Checks of captured steps that run with CUDA graphs on a GPU and with recorded graphs on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness import Recipe
from harness.training.graph_backend import CudaGraphs, GraphBackend
from harness.training.trainer import Trainer
from siblings import Family
from training.captured import captured, copies, eager, started, take
from training.recorded_graphs import RecordedGraphs


def backend_of(device: str) -> GraphBackend:
    """Return what records graphs on a device."""
    return RecordedGraphs() if device == "cpu" else CudaGraphs(torch.device(device))


def distance_of_replays(family: Family, graphs: GraphBackend, *, members: int = 2, compiled: bool = False) -> float:
    """Return how far replays end from eager steps, four of each, as a share of the way. Raise if they are not captured."""
    replayed, reference = started(family, members), started(family, members)
    moved = take(replayed, captured(replayed, graphs, compiled=compiled), 4)
    expected = take(reference, eager(reference), 4)
    return float((moved - expected).norm() / expected.norm())


def largest_errors(trainers: Sequence[Trainer], graphs: GraphBackend, replays: int) -> list[float]:
    """Replay one step of siblings many times, with four inputs in turn; return each sibling's largest error of a gradient.

    Each replay starts from the same state, so that rounding errors do not add up. An error is relative to the gradient's norm
    in an eager step of the sibling alone. Nothing waits for the device before the last replay.
    """
    saved = copies(trainers)
    inputs = []
    for _ in range(4):
        inputs.append([trainer.next_inputs() for trainer in trainers])
        for trainer in trainers:
            trainer.count_step()
    expected = []
    for trainer_index, trainer in enumerate(trainers):
        own = []
        for step_inputs in inputs:
            restore(trainers, saved)
            eager([trainer])([step_inputs[trainer_index]])
            own.append(gradient(trainer).clone())
        expected.append(own)
    restore(trainers, saved)
    step_function = captured(trainers, graphs)
    errors = torch.zeros(len(trainers), device=saved[0].device)
    for replay in range(replays):
        restore(trainers, saved)
        step_function(inputs[replay % 4])
        for index, trainer in enumerate(trainers):
            wanted = expected[index][replay % 4]
            error = torch.linalg.vector_norm(gradient(trainer) - wanted) / torch.linalg.vector_norm(wanted)
            errors[index] = torch.maximum(errors[index], error.nan_to_num(nan=torch.inf))
    return errors.tolist()


def gradient(trainer: Trainer) -> Tensor:
    """Return a training's gradient, which its last step left."""
    assert trainer.network.gradient is not None
    return trainer.network.gradient


def restore(trainers: Sequence[Trainer], saved: Sequence[Tensor]) -> None:
    """Set siblings to copies of their tensors; let the gradients be NaN."""
    values = iter(saved)
    for trainer in trainers:
        gradient(trainer).fill_(torch.nan)
        for tensor in trainer.state.tensors():
            tensor.copy_(next(values))


class WhileCapturing(nn.Module):
    """Calls a function in those of its forward passes that are captured."""

    def __init__(self, graphs: GraphBackend, function: Callable[[], object]) -> None:
        super().__init__()
        self._graphs = graphs
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self._graphs, RecordedGraphs):
            capturing = self._graphs.recording
        else:
            capturing = torch.cuda.is_current_stream_capturing()
        if capturing:
            self._function()
        return x


class Reads(nn.Module):
    """Reads a value of the batch back from the device."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 if float(x.detach().sum()) else 2)


class Draws(nn.Module):
    """Draws from torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.1, self.training)


def perceptrons(device: str) -> Family:
    """Return perceptrons with dropout, which train with small steps."""
    return Family("perceptron", Recipe(batch_size=16, learning_rate=0.01), device, dropout=0.2)


def with_layer(family: Family, layer: nn.Module, members: int = 1) -> list[Trainer]:
    """Return siblings at their start, the last one's network with one more layer."""
    trainers = started(family, members - 1)
    trainer, start = family.sibling(members - 1, nn.Sequential(family.module(members - 1), layer))
    trainer.load(start)
    return [*trainers, trainer]
