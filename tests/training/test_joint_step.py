"""Steps on one batch with a joint loss: against trainings alone, torch's own gradients, stopped and captured ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fake_device import FakeDevice
from harness import Coupling, Recipe, streams
from harness.telemetry.stopwatch import Stopwatch
from harness.training.cuda_graph import CudaGraphStep, EagerStep
from harness.training.joint import OnOneBatch
from harness.training.joint_step import JointStep
from harness.training.point import Point
from harness.training.trainer import Rules, Trainer
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.populations.couplings.mutual_distillation import MutualDistillation
from harness_basin.populations.couplings.repulsion import Repulsion, mean_pairwise_divergence
from siblings import STILL, Family, equal, perceptron, same, train_alone
from training.captured import take
from training.device_cases import RECIPES, Siblings
from training.recorded_graphs import RecordedGraphs
from training.test_joint import stop_after

STREAM = ("coupling", 0)
RECIPE = Recipe(epochs=2, batch_size=20, learning_rate=0.05, clip_norm=1.0)
STEPS = 4  # per epoch
REPULSION, GAP = Repulsion(), Repulsion(Repulsion.Options(diversity="jensen_gap", strength=1))
MUTUAL = MutualDistillation()
COUPLINGS = [REPULSION, GAP, MUTUAL]


def label(value: Any) -> str:
    """Return a test's name of a coupling."""
    return f"{value.name} {value.options.diversity}" if isinstance(value, Repulsion) else value.name


class Summed(Coupling):
    """The sum of the networks' own losses."""

    name, shares_batch = "summed", True

    def joint_loss(self, losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return losses.sum()


class InPlace(CrossEntropy):
    """An objective that changes the logits."""

    def loss(
        self, logits: Tensor, labels: Tensor, *, teacher_logits: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        return super().loss(logits.mul_(2), labels, label_smoothing=label_smoothing)


def in_one_order(family: Family, member: int) -> tuple[Trainer, Point]:
    """Return a member's trainer and start. All members have the order of the first."""
    trainer, start = family.sibling(member)
    rules = Rules(trainer.rules.recipe, trainer.rules.objective, trainer.rules.rate, ("order", 0, 0))
    return Trainer(trainer.network, trainer.augmenter, trainer.labels, rules, trainer.teacher), start


def joint(coupling: Coupling, family: Family, members: int = 3) -> tuple[OnOneBatch, list[Point]]:
    """Return the joint training of some networks, and their starts."""
    pairs = [in_one_order(family, member) for member in range(members)]
    return OnOneBatch([pair[0] for pair in pairs], coupling, STREAM), [pair[1] for pair in pairs]


def trained(coupling: Coupling, family: Family, starts: Sequence[Point] | None = None) -> list[Point]:
    """Return where the networks end."""
    training, own = joint(coupling, family)
    return training.run(starts or own, family.recipe.epochs)


@pytest.mark.parametrize(
    "options",
    [{}, {"batchnorm": True, "dropout": 0.2}, {"distilled": True}],
    ids=["plain", "batchnorm", "distilled"],
)
def test_sum_of_own_losses(options: dict[str, Any]) -> None:
    """The members are those that are trained alone in the same order, to the bit, with their epochs' records."""
    family = Family("perceptron", RECIPE, **options)
    for member, end in enumerate(trained(Summed(), family)):
        trainer, start = in_one_order(family, member)
        assert same(end, train_alone(trainer, start, RECIPE.epochs))


def test_objective_that_changes_its_arguments() -> None:
    """It may, as in a training alone."""
    family = Family("perceptron", RECIPE)
    training, starts = joint(Summed(), family)
    for trainer in training.trainers:
        trainer.rules = Rules(RECIPE, InPlace(), trainer.rules.rate, trainer.rules.order)
    ends = training.run(starts, 1)
    alone, start = in_one_order(family, 2)
    alone.rules = Rules(RECIPE, InPlace(), alone.rules.rate, alone.rules.order)
    assert same(ends[2], train_alone(alone, start, 1))


def loss_at(coupling: Coupling, states: Sequence[dict[str, Tensor]], indices: Tensor) -> Tensor:
    """Return the joint loss of perceptrons on images of the blobs, in float64, by torch alone."""
    family = Family("perceptron", RECIPE)
    images, labels = family.augmenter.plain(indices).double(), family.labels[indices]
    module = perceptron(0).double()
    logits = torch.stack([torch.func.functional_call(module, state, (images,)) for state in states])
    losses = torch.stack([F.cross_entropy(own, labels) for own in logits])
    return coupling.joint_loss(losses, logits, labels)


@pytest.mark.parametrize("coupling", COUPLINGS, ids=label)
def test_gradient_of_a_step(coupling: Coupling) -> None:
    """A step moves each network by −rate times the gradient of the joint loss: by finite differences in float64.

    Mutual distillation is an exception by design, since its teachers are constants: they are held in place here.
    """
    recipe = Recipe(epochs=1, batch_size=20, learning_rate=0.05, momentum=0, weight_decay=0, augmentation=STILL, warmup=0)
    training, starts = joint(coupling, Family("perceptron", recipe))
    ends = training.run(starts, 1, stopping=stop_after(1))
    order = streams.permutation(streams.key("order", 0, 0, "batches", 0), 96)[:20]
    rate = recipe.cosine(0.5 / STEPS)
    for index in range(3):
        for name in starts[0].weights:
            direction = torch.zeros_like(starts[0].weights[name], dtype=torch.float64)
            direction.view(-1)[::7] = 1
            losses = []
            for sign in (1, -1):
                moved = [{key: value.double() for key, value in start.weights.items()} for start in starts]
                moved[index][name] = moved[index][name] + sign * 1e-5 * direction
                losses.append(float(own_loss(coupling, moved, index, starts, order)))
            slope = (losses[0] - losses[1]) / 2e-5
            step = ((ends[index].weights[name] - starts[index].weights[name]).double() * direction).sum()
            assert float(step) == pytest.approx(-rate * slope, rel=1e-3, abs=1e-6)


def own_loss(
    coupling: Coupling, states: Sequence[dict[str, Tensor]], index: int, starts: Sequence[Point], order: Tensor
) -> Tensor:
    """Return the joint loss as a function of one network; for mutual distillation the part that teaches this network."""
    if not isinstance(coupling, MutualDistillation):
        return loss_at(coupling, states, order)
    family = Family("perceptron", RECIPE)
    images, labels = family.augmenter.plain(order).double(), family.labels[order]
    logits = [torch.func.functional_call(perceptron(0).double(), state, (images,)) for state in states]
    beta, temperature = coupling.options.beta, coupling.options.temperature
    peers = [own for other, own in enumerate(logits) if other != index]
    teacher = torch.stack([(own / temperature).softmax(1) for own in peers]).mean(0)
    student = (logits[index] / temperature).log_softmax(1)
    divergence = (teacher * (teacher.log() - student)).sum(1).mean()
    return (1 - beta) * temperature**2 * divergence + beta * F.cross_entropy(logits[index], labels)


@pytest.mark.parametrize("coupling", COUPLINGS, ids=label)
def test_training_stopped_after_any_step_continues(coupling: Coupling) -> None:
    """Continued in new trainers, it ends with the points of an uninterrupted one, to the bit."""
    family = Family("perceptron", RECIPE, batchnorm=True, dropout=0.2)
    whole = trained(coupling, family)
    for last_step in (1, STEPS, STEPS + 2):
        first, starts = joint(coupling, family)
        stopped = first.run(starts, RECIPE.epochs, stopping=stop_after(last_step))
        assert stopped[0].step == last_step
        continued = trained(coupling, family, stopped)
        assert all(same(one, other) for one, other in zip(continued, whole, strict=True))


@pytest.mark.parametrize("coupling", COUPLINGS, ids=label)
def test_equal_members(coupling: Coupling) -> None:
    """They stay equal to the bit, whatever the strength: on one batch, nothing tells them apart."""
    family = Family("perceptron", RECIPE, dropout=0.2)
    _, starts = joint(coupling, family)
    first, *others = trained(coupling, family, [starts[0]] * 3)
    assert not equal(first.weights, starts[0].weights)
    assert all(equal(first.weights, other.weights) for other in others)


def divergence(points: Sequence[Point]) -> float:
    """Return the mean pairwise divergence of perceptrons' predictions on the blobs."""
    family = Family("perceptron", RECIPE)
    images = family.augmenter.plain(torch.arange(96))
    logits = [torch.func.functional_call(perceptron(0), point.weights, (images,)) for point in points]
    return float(mean_pairwise_divergence(torch.stack(logits).log_softmax(2)))


def test_direction() -> None:
    """Repulsion makes the predictions differ more than the plain losses do, and more with its strength; mutual
    distillation makes them differ less."""
    family = Family("perceptron", RECIPE.replace(epochs=10, augmentation=STILL))
    strong = Repulsion(Repulsion.Options(strength=1.5))
    found = [divergence(trained(coupling, family)) for coupling in (MUTUAL, Summed(), REPULSION, strong)]
    assert found[0] < 0.5 * found[1]
    assert found[1] < found[2] < found[3]
    assert divergence(trained(GAP, family)) > found[1]


@pytest.mark.parametrize("coupling", COUPLINGS, ids=label)
def test_steps_on_a_fake_device(coupling: Coupling) -> None:
    """A step reads nothing back, and computes what it does on the CPU, to the bit."""
    recipe = RECIPES["sgd"].replace(epochs=2, batch_size=48)
    with FakeDevice() as device:
        ends = trained(coupling, Siblings("batchnorm", recipe, "ipu"))
    expected = trained(coupling, Siblings("batchnorm", recipe))
    assert all(same(one, other) for one, other in zip(ends, expected, strict=True))
    assert device.reads == {"trainer.Trainer._read_sums", "trainer.Trainer._weights_are_finite"}


def started(family: Family) -> list[Trainer]:
    """Return two members at their start."""
    trainers = []
    for member in range(2):
        trainer, start = in_one_order(family, member)
        trainer.load(start)
        trainers.append(trainer)
    return trainers


@pytest.mark.parametrize("coupling", COUPLINGS, ids=label)
@pytest.mark.parametrize(("kind", "precision"), [("perceptron", "fp32"), ("resnet20", "fp32"), ("vit", "bf16")])
def test_replays_equal_eager_steps(coupling: Coupling, kind: str, precision: str) -> None:
    """One graph holds the step of all members, each with a stream of its own before and after the joint loss."""
    family = Family(kind, Recipe(batch_size=48, learning_rate=0.01, precision=precision))
    replayed, reference = started(family), started(family)
    take_steps, graphs = JointStep(coupling.joint_loss), RecordedGraphs()
    states, inputs = [own.state for own in replayed], [own.next_inputs() for own in replayed]
    step = CudaGraphStep(states, inputs, Stopwatch(), graphs, take_steps=take_steps)
    moved = take(replayed, step, 4)
    expected = take(reference, EagerStep([own.state for own in reference], Stopwatch(), take_steps), 4)
    assert float((moved - expected).norm() / expected.norm()) < 1e-2
    fork, join = [(f"stream {number}", "caller") for number in (1, 2)], [("caller", f"stream {number}") for number in (1, 2)]
    assert graphs.waits == (fork + join) * (len(graphs.waits) // 4)
    assert len(graphs.waits) % 8 == 0
