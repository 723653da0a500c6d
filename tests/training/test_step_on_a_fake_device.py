"""Training steps mix no devices, read nothing back and copy nothing; on a device they compute what they do on the CPU."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from fake_device import DEVICE, FakeDevice
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import EagerStep
from harness.training.loop import train_together
from harness.training.static_inputs import StaticInputs
from harness.training.step import take_step
from harness.training.trainer import Trainer
from siblings import same
from training.captured import captured, copies, take
from training.device_cases import NETWORKS, RECIPES, Siblings
from training.recorded_graphs import RecordedGraphs

NETWORK_CASES = [(name, "sgd", None, precision) for name in NETWORKS for precision in ("fp32", "bf16")]
OPTIMIZER_CASES = [("batchnorm", optimizer, None, "fp32") for optimizer in RECIPES]
OPTIMIZER_CASES += [("unused parameter", "adamw", None, "fp32")]
TEACHER_CASES = [
    ("resnet20", "sgd", "augmented", "bf16"),
    ("batchnorm", "adam", "plain", "fp32"),
    ("vit", "adamw", "augmented", "fp32"),
    ("timm vit", "adamw", "plain", "bf16"),
]
STATIC_CASES = [("resnet20", "sgd", None, "bf16"), ("vit", "adamw", "augmented", "bf16"), *OPTIMIZER_CASES]


def started(name: str, optimizer: str, view: str | None, precision: str, device: str) -> Trainer:
    """Return a training at its start."""
    recipe = RECIPES[optimizer].model_copy(update={"precision": precision})
    trainer, start = Siblings(name, recipe, device, view).sibling(0)
    trainer.load(start)
    # torch has autocast for the CPU's kernels, which compute here, and none for the device by its own name.
    trainer.state.device = torch.device("cpu")
    return trainer


def on_host(trainer: Trainer) -> list[Tensor]:
    """Return copies of all that a step changes, on the CPU."""
    return [tensor.cpu() for tensor in copies([trainer])]


def eager_steps(trainer: Trainer, device: FakeDevice | None = None) -> list[Tensor]:
    """Take two steps, beyond which the optimizer's memory is not empty; return all that they changed."""
    step = EagerStep([trainer.state], Stopwatch())
    for _ in range(2):
        inputs = [trainer.next_inputs()]
        with device.no_waiting() if device else nullcontext():
            step(inputs)
        trainer.count_step()
    return on_host(trainer)


def static_steps(trainer: Trainer, device: FakeDevice | None = None) -> list[Tensor]:
    """Take two steps with the inputs of a captured step; return all that they changed."""
    where = DEVICE if device else torch.device("cpu")
    static = StaticInputs(trainer.next_inputs(), where)
    for _ in range(2):
        inputs = trainer.next_inputs()
        with device.no_waiting() if device else nullcontext():
            static.write(inputs)
            take_step(trainer.state, static.inputs, Stopwatch())
        trainer.count_step()
    return on_host(trainer)


@pytest.mark.parametrize(("name", "optimizer", "view", "precision"), [*NETWORK_CASES, *OPTIMIZER_CASES, *TEACHER_CASES])
def test_eager_steps(name: str, optimizer: str, view: str | None, precision: str) -> None:
    """Numbers as inputs: weights, buffers, optimizer memory and sums are those of the CPU, to the bit."""
    with FakeDevice() as device:
        found = eager_steps(started(name, optimizer, view, precision, "ipu"), device)
    expected = eager_steps(started(name, optimizer, view, precision, "cpu"))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("name", "optimizer", "view", "precision"), STATIC_CASES)
def test_steps_with_static_inputs(name: str, optimizer: str, view: str | None, precision: str) -> None:
    """Tensors as inputs, as in a captured step: the same, and writing the inputs does not wait either."""
    with FakeDevice() as device:
        found = static_steps(started(name, optimizer, view, precision, "ipu"), device)
    expected = static_steps(started(name, optimizer, view, precision, "cpu"))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("view", [None, "plain"])
def test_recorded_steps(view: str | None) -> None:
    """Recorded, compared and replayed, two siblings move as on the CPU; only the comparison reads values."""
    moved = []
    for device in (FakeDevice(), None):
        with device or nullcontext():
            siblings = Siblings("batchnorm", RECIPES["adamw"], "ipu" if device else "cpu", view)
            trainers = []
            for member in range(2):
                trainer, start = siblings.sibling(member)
                trainer.load(start)
                trainers.append(trainer)
            moved.append(take(trainers, captured(trainers, RecordedGraphs()), 3).cpu())
        if device:
            assert device.reads == {"trace.Trace.check", "trace._norm"}
    assert torch.equal(*moved)


def test_whole_training() -> None:
    """Of an epoch, only its end reads values: the sums, and whether weights are finite."""
    recipe = RECIPES["sgd"].model_copy(update={"epochs": 2, "batch_size": 48})
    ends = []
    with FakeDevice() as device:
        pairs = [Siblings("batchnorm", recipe, "ipu", "augmented").sibling(member) for member in range(2)]
        ends.append(train_together(*zip(*pairs, strict=True), 2))
    pairs = [Siblings("batchnorm", recipe, "cpu", "augmented").sibling(member) for member in range(2)]
    ends.append(train_together(*zip(*pairs, strict=True), 2))
    assert all(same(one, other) for one, other in zip(*ends, strict=True))
    assert device.reads == {"trainer.Trainer._read_sums", "trainer.Trainer._weights_are_finite"}
