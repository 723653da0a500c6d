"""What the tests of captured steps share: siblings at their start, and the steps that they take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import CudaGraphStep, EagerStep, StepFunction
from harness.training.graph_backend import GraphBackend
from harness.training.trainer import Trainer
from siblings import Family


def started(family: Family, members: int = 2) -> list[Trainer]:
    """Return siblings at their start."""
    trainers = []
    for member in range(members):
        trainer, start = family.sibling(member)
        trainer.load(start)
        trainers.append(trainer)
    return trainers


def captured(trainers: Sequence[Trainer], graphs: GraphBackend, *, compiled: bool = False) -> CudaGraphStep:
    """Capture siblings' steps."""
    states = [trainer.state for trainer in trainers]
    inputs = [trainer.next_inputs() for trainer in trainers]
    return CudaGraphStep(states, inputs, Stopwatch(), graphs, compiled=compiled)


def eager(trainers: Sequence[Trainer]) -> EagerStep:
    """Return siblings' steps, taken eagerly."""
    return EagerStep([trainer.state for trainer in trainers], Stopwatch())


def take(trainers: Sequence[Trainer], step_function: StepFunction, steps: int) -> Tensor:
    """Take some steps; return how far each sibling moved, (members, parameters + buffers)."""
    before = torch.stack([trainer.network.vector.clone() for trainer in trainers])
    for _ in range(steps):
        step_function([trainer.next_inputs() for trainer in trainers])
        for trainer in trainers:
            trainer.count_step()
    return torch.stack([trainer.network.vector for trainer in trainers]) - before


def copies(trainers: Sequence[Trainer]) -> list[Tensor]:
    """Return copies of all that a step changes."""
    tensors = []
    for trainer in trainers:
        tensors += [tensor.clone() for tensor in trainer.state.tensors()]
    return tensors


def equal(left: Sequence[Tensor], right: Sequence[Tensor]) -> bool:
    """Return whether tensors are equal to the bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
