"""The loop against a plain script, stopped trainings against uninterrupted ones, siblings against each one alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import toys
from harness import Recipe, TaskFailed, streams
from harness.networks.flat_network import FlatNetwork
from harness.telemetry.stopwatch import Stopwatch
from harness.training.augmentation import Augmenter
from harness.training.loop import train_together
from harness.training.point import Point
from harness.training.schedule import learning_rate
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.distillation import Distillation, DistillationOptions
from siblings import STILL, Family, same, train_alone
from training.drawing_layers import DRAWING_LAYERS, Drawing, sibling_with

ORDER = ("order", 0, 0)


def make(recipe: Recipe, **options: Any) -> tuple[Trainer, Point]:
    """Return a trainer of a perceptron on blobs, and its start."""
    train, _ = toys.Blobs().load(Path())
    mean, std = toys.Blobs.normalization
    augmenter = Augmenter(train.images, recipe.augmentation, mean, std)
    with streams.seeded(streams.key("init", 0, 0)):
        module = toys.Perceptron(toys.Perceptron.Options(**options)).build((1, 4, 4), 4)
    network = FlatNetwork(module, gradient=True)
    start = Point(0, network.state())
    rate = learning_rate(recipe, recipe.steps_per_epoch(len(train)))
    return Trainer(network, augmenter, train.labels, Rules(recipe, CrossEntropy(), rate, ORDER)), start


def stop_after(last_step: int) -> Callable[[], bool]:
    """Return a function that returns True once it was asked before `last_step` steps."""
    questions = iter(range(100))
    return lambda: next(questions) >= last_step


def test_loop_equals_a_plain_script() -> None:
    """Three epochs of SGD give the weights of a hand-written loop."""
    recipe = Recipe(epochs=3, batch_size=20, augmentation=STILL, weight_decay=1e-3)
    trainer, start = make(recipe)
    with streams.seeded(streams.key("init", 0, 0)):
        model = toys.Perceptron().build((1, 4, 4), 4)
    train, _ = toys.Blobs().load(Path())
    images = (train.images / 255 - 0.5) / 0.25
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-3)
    for epoch in range(3):
        order = streams.permutation(streams.key(*ORDER, "batches", epoch), 96)
        for step in range(4):
            chosen = order[step * 20 : (step + 1) * 20]
            optimizer.param_groups[0]["lr"] = recipe.cosine(epoch + (step + 0.5) / 4)
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), train.labels[chosen]).backward()
            optimizer.step()
    end = train_alone(trainer, start, until=3)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(end.weights[name], tensor, rtol=1e-5, atol=1e-6)
    assert [record.epoch for record in end.history] == [1, 2, 3]


@pytest.mark.parametrize("options", [{}, {"batchnorm": True}, {"dropout": 0.3}], ids=["plain", "batchnorm", "dropout"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_stopped_after_any_step_continues(options: dict[str, Any], optimizer: str) -> None:
    """Continued in a new trainer, it ends with the weights, memory and history of an uninterrupted one, to the bit."""
    recipe = Recipe(epochs=3, batch_size=20, optimizer=optimizer, learning_rate=0.05)
    trainer, start = make(recipe, **options)
    whole = train_alone(trainer, start, until=3)
    for last_step in (1, 4, 6, 11):
        first, start = make(recipe, **options)
        stopped = train_alone(first, start, until=3, stopping=stop_after(last_step))
        assert stopped.step == last_step
        assert same(train_alone(make(recipe, **options)[0], stopped, until=3), whole)


def test_dropout_does_not_use_the_global_generator() -> None:
    """Training does not change the state of torch's generator, and does not depend on it."""
    recipe = Recipe(epochs=1, batch_size=20)
    torch.manual_seed(1)
    trainer, start = make(recipe, dropout=0.5)
    before = torch.get_rng_state()
    first = train_alone(trainer, start, until=1)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    trainer, start = make(recipe, dropout=0.5)
    second = train_alone(trainer, start, until=1)
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_diverged_training_names_the_epoch() -> None:
    """A loss that is not finite is an error in its epoch."""
    recipe = Recipe(epochs=5, batch_size=20, learning_rate=1e12, warmup=0.0)
    trainer, start = make(recipe)
    with pytest.raises(TaskFailed, match=r"diverged in epoch \d: the training loss is (nan|inf); lower the learning rate"):
        train_alone(trainer, start, until=5)


def test_gradient_is_clipped_to_the_norm() -> None:
    """With clip_norm c the first step, without momentum, changes the weights by rate · c."""
    recipe = Recipe(epochs=1, batch_size=96, momentum=0.0, weight_decay=0.0, clip_norm=0.01, warmup=0.0, augmentation=STILL)
    trainer, start = make(recipe)
    end = train_alone(trainer, start, until=1)
    squares = [float((end.weights[name] - start.weights[name]).square().sum()) for name in end.weights]
    assert sum(squares) ** 0.5 == pytest.approx(0.01 * recipe.cosine(0.5), rel=1e-3)


def test_accuracy_in_bf16() -> None:
    """On an easy task it is within ten points of the accuracy in float32."""
    accuracies = {}
    for precision in ("fp32", "bf16"):
        trainer, start = make(Recipe(epochs=8, batch_size=16, precision=precision, augmentation=STILL))
        accuracies[precision] = train_alone(trainer, start, until=8).history[-1].accuracy
    assert accuracies["fp32"] > 80
    assert abs(accuracies["fp32"] - accuracies["bf16"]) < 10


def test_teacher_sees_the_students_images_in_evaluation_mode() -> None:
    """A student that equals its teacher has a distillation loss of zero, also on augmented images."""
    recipe = Recipe(epochs=1, batch_size=20, weight_decay=0.0)
    trainer, start = make(recipe)
    teacher = FlatNetwork(toys.Perceptron().build((1, 4, 4), 4))
    teacher.load(start.weights)
    teacher.module.eval()
    trainer.rules = Rules(recipe, Distillation(DistillationOptions(beta=0.0)), lambda step: 0.0, ORDER)
    trainer.teacher = teacher
    end = train_alone(trainer, start, until=1)
    assert end.history[0].loss == pytest.approx(0.0, abs=1e-6)


def test_label_smoothing_equals_torchs() -> None:
    """Label smoothing spreads its share over all classes, as in torch."""
    logits, labels = torch.randn(8, 4), torch.arange(8) % 4
    expected = nn.CrossEntropyLoss(label_smoothing=0.2)(logits, labels)
    torch.testing.assert_close(CrossEntropy().loss(logits, labels, label_smoothing=0.2), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("perceptron", {}),
        ("perceptron", {"batchnorm": True}),
        ("perceptron", {"dropout": 0.3}),
        ("resnet20", {}),
        ("vit", {}),
    ],
)
@pytest.mark.parametrize("distilled", [False, True], ids=["plain", "distilled"])
def test_siblings_train_together_as_alone(kind: str, options: dict[str, Any], distilled: bool) -> None:
    """Three siblings have the weights, memory and history that each has alone, to the bit."""
    recipe = Recipe(epochs=2, batch_size=32, learning_rate=0.02, optimizer="sgd" if kind == "perceptron" else "adamw")
    family = Family(kind, recipe, distilled=distilled, **options)
    alone = [train_alone(trainer, start, 2) for trainer, start in map(family.sibling, range(3))]
    trainers, starts = zip(*map(family.sibling, range(3)), strict=True)
    records: list[list[int]] = [[], [], []]
    callbacks = [lambda record, point, j=j: records[j].append(record.epoch) for j in range(3)]
    together = train_together(trainers, starts, 2, after_epoch=callbacks)
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert records == [[1, 2]] * 3
    assert not same(together[0], together[1])


@pytest.mark.parametrize("last_step", [1, 3, 5])
def test_stopped_siblings_continue_together_or_alone(last_step: int) -> None:
    """A group that is stopped after any step ends, as a group or one by one, with the weights of an uninterrupted one."""
    family = Family("perceptron", Recipe(epochs=2, batch_size=24), dropout=0.3)
    whole = [train_alone(trainer, start, 2) for trainer, start in map(family.sibling, range(3))]
    trainers, starts = zip(*map(family.sibling, range(3)), strict=True)
    stopped = train_together(trainers, starts, 2, stopping=stop_after(last_step))
    assert [point.step for point in stopped] == [last_step] * 3
    trainers = [family.sibling(j)[0] for j in range(3)]
    assert all(same(one, other) for one, other in zip(train_together(trainers, stopped, 2), whole, strict=True))
    assert all(same(train_alone(family.sibling(j)[0], stopped[j], 2), whole[j]) for j in range(3))


@pytest.mark.parametrize("layer", DRAWING_LAYERS)
def test_siblings_that_draw(layer: str) -> None:
    """Together, alone, and stopped after any step, siblings that draw end with equal bits, and do not use torch's generator."""
    family = Family("perceptron", Recipe(epochs=2, batch_size=24))
    pairs = [sibling_with(family, layer, member) for member in range(2)]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    alone = [train_alone(trainer, start, 2) for trainer, start in pairs]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    trainers, starts = zip(*(sibling_with(family, layer, member) for member in range(2)), strict=True)
    together = train_together(trainers, starts, 2)
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))
    assert not same(alone[0], alone[1])
    for last_step in (1, 4, 5):
        trainer, start = sibling_with(family, layer, 0)
        stopped = train_alone(trainer, start, 2, stopping=stop_after(last_step))
        assert same(train_alone(sibling_with(family, layer, 0)[0], stopped, 2), alone[0])


class DrawsLater(nn.Module):
    """Draws from the second epoch on: after as many passes, which it counts, as the first one has steps."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        return F.dropout(x, 0.5, self.training and int(self.passes) > 4)


def test_network_that_begins_to_draw_in_a_later_epoch() -> None:
    """A training that is resumed in that epoch ends as an uninterrupted one, to the bit."""
    family = Family("perceptron", Recipe(epochs=3, batch_size=24))

    def make_later() -> tuple[Trainer, Point]:
        return family.sibling(0, nn.Sequential(*family.module(0), DrawsLater()))

    trainer, start = make_later()
    whole = train_alone(trainer, start, 3)
    for last_step in (3, 4, 6, 9):
        trainer, start = make_later()
        stopped = train_alone(trainer, start, 3, stopping=stop_after(last_step))
        assert same(train_alone(make_later()[0], stopped, 3), whole)


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), Drawing(lambda x, training: F.dropout(x, 0.3, training))])
def test_dropout_within_a_gradient_checkpoint(layer: nn.Module) -> None:
    """The forward pass that is repeated for the gradient would draw other numbers; the error says what to disable."""
    family = Family("perceptron", Recipe(epochs=1, batch_size=24))

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = checkpoint(self.layer, x, use_reentrant=False)
            return out * out

    trainer, start = family.sibling(0, nn.Sequential(*family.module(0), Checkpointed()))
    with pytest.raises(RuntimeError, match="disable gradient checkpointing of layers with dropout"):
        train_alone(trainer, start, 1)


def test_sibling_that_diverges_fails_alone() -> None:
    """It yields an error with the epoch; the other two end as they do alone."""
    family = Family("perceptron", Recipe(epochs=2, batch_size=24))
    alone = [train_alone(trainer, start, 2) for trainer, start in map(family.sibling, range(3))]
    trainers, starts = zip(*map(family.sibling, range(3)), strict=True)
    trainers[1].rules = replace(trainers[1].rules, rate=lambda step: 1e20)
    first, second, third = train_together(trainers, starts, 2)
    assert same(first, alone[0])
    assert isinstance(second, TaskFailed)
    assert str(second).startswith("diverged in epoch 1: the training loss is")
    assert same(third, alone[2])


def test_siblings_at_different_steps_are_refused() -> None:
    """The error has their steps."""
    family = Family("perceptron", Recipe(epochs=2, batch_size=24))
    trainers, starts = zip(*map(family.sibling, range(2)), strict=True)
    with pytest.raises(ValueError, match="siblings start at one step; these start at 0, 4"):
        train_together(trainers, [starts[0], replace(starts[1], step=4)], 2)


def test_time_of_the_phases_of_a_training() -> None:
    """Data, forward and backward, and the optimizer are measured separately, and together take most of the time."""
    trainer, start = Family("resnet20", Recipe(epochs=2, batch_size=64)).sibling(0)
    watch = Stopwatch()
    train_alone(trainer, start, 2, watch=watch)
    seconds = watch.lap()
    phases = [seconds[phase] for phase in ("data", "forward/backward", "optimizer")]
    assert all(phases)
    assert sum(phases) > 0.9 * sum(seconds.values())
