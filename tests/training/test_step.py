"""One step against plain PyTorch in float64, and with tensors as inputs, as in a captured graph."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from harness import Recipe, streams
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.static_inputs import StaticInputs
from harness.training.step import TrainState, take_step
from harness.training.trainer import Trainer
from siblings import STILL, Family, same, train_alone

KINDS = ["perceptron", "resnet20", "vit"]


def started(family: Family, member: int = 0) -> Trainer:
    """Return a sibling at its start."""
    trainer, start = family.sibling(member)
    trainer.load(start)
    return trainer


def reference(state: TrainState, family: Family, indices: torch.Tensor, key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the gradient (parameters,) of a plain module in float64 on the same augmented images."""
    module = family.module(0).double()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    images = state.augmenter(indices, key).double()
    logits, labels = module(images), state.labels[indices]
    loss = F.cross_entropy(logits, labels)
    if state.teacher is not None:
        with torch.no_grad():
            teacher = family.module(10).double().eval()(images)
        divergence = F.kl_div((logits / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="none")
        loss = 0.3 * loss + 0.7 * 9 * divergence.sum(1).mean()
    loss.backward()
    flat = FlatNetwork(family.module(0).double(), gradient=True)
    return loss.detach(), flat.flatten_trained({name: p.grad for name, p in module.named_parameters()})


@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-5), ("bf16", 0.15)])
def test_loss_and_gradient_are_those_of_float64(kind: str, distilled: bool, precision: str, tolerance: float) -> None:
    """The gradient differs by rounding: by 1e-5 of its norm, or a few hundredths in bfloat16."""
    family = Family(kind, Recipe(batch_size=64, precision=precision, weight_decay=0.0), distilled=distilled)
    trainer = started(family)
    for layer in trainer.network.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.eval()
    inputs = trainer.next_inputs()
    loss, gradient = reference(trainer.state, family, inputs.indices, inputs.augmentation)
    take_step(trainer.state, inputs, Stopwatch())
    found = trainer.network.gradient.double()
    assert float((found - gradient).norm() / gradient.norm()) < tolerance
    assert float(trainer.state.loss_sum) == pytest.approx(float(loss), rel=tolerance / 10)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("kind", KINDS)
def test_step_with_tensor_inputs_equals_step_with_numbers(kind: str, optimizer: str) -> None:
    """Static inputs, rewritten before each step, move the weights as numbers do, to rounding."""
    family = Family(kind, Recipe(epochs=4, batch_size=48, optimizer=optimizer, learning_rate=0.01, clip_norm=1.0))
    numbers, tensors = started(family), started(family)
    static = StaticInputs(tensors.next_inputs(), torch.device("cpu"))
    for _ in range(5):
        inputs = numbers.next_inputs()
        take_step(numbers.state, inputs, Stopwatch())
        static.write(inputs)
        take_step(tensors.state, static.inputs, Stopwatch())
        for trainer in (numbers, tensors):
            trainer.count_step()
    moved = numbers.network.vector - family.sibling(0)[0].network.vector
    assert float((tensors.network.vector - numbers.network.vector).norm()) < 1e-3 * float(moved.norm())
    torch.testing.assert_close(tensors.state.loss_sum, numbers.state.loss_sum, rtol=1e-6, atol=0)


def test_step_depends_on_nothing_but_state_and_inputs() -> None:
    """From a restored state, the same inputs give the same bits, whatever the state of the global generator."""
    trainer = started(Family("vit", Recipe(batch_size=48)))
    state, inputs = trainer.state, trainer.next_inputs()
    saved = [tensor.clone() for tensor in state.tensors()]
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        for tensor, value in zip(state.tensors(), saved, strict=True):
            tensor.copy_(value)
        take_step(state, inputs, Stopwatch())
        outcomes.append([tensor.clone() for tensor in state.tensors()])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
    assert not torch.equal(outcomes[0][0], saved[0])


def test_dropout_differs_between_steps_and_members() -> None:
    """The key of a step's dropout is a function of order stream, epoch and step."""
    family = Family("vit", Recipe(batch_size=48))
    trainer, other = started(family, 0), started(family, 1)
    keys = {trainer.next_inputs().noise, other.next_inputs().noise}
    trainer.count_step()
    keys.add(trainer.next_inputs().noise)
    assert len(keys) == 3
    assert trainer.next_inputs().noise == streams.key("order", 0, 0, "noise", 0, 1)


def test_frozen_parameter_is_not_trained() -> None:
    """Without weight decay it is unchanged, and the others are trained."""
    family = Family("perceptron", Recipe(epochs=1, batch_size=24, weight_decay=0.0, augmentation=STILL))
    module = family.module(0)
    module[1].weight.requires_grad_(False)
    trainer, start = family.sibling(0, module)
    end = train_alone(trainer, start, 1)
    assert torch.equal(end.weights["1.weight"], start.weights["1.weight"])
    assert not torch.equal(end.weights["3.weight"], start.weights["3.weight"])
    assert not same(end, start)


def test_network_without_a_gradient_cannot_train() -> None:
    """The error says how to make one that can."""
    flat = FlatNetwork(Family("perceptron", Recipe()).module(0))
    with pytest.raises(ValueError, match="made without a gradient; make it with gradient=True"):
        flat.gradient_of(flat.module(torch.zeros(1, 1, 4, 4)).sum())
