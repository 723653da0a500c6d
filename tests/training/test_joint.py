"""Joint trainings: reductions to uncoupled ones, stopped trainings against uninterrupted ones, no reads within a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fake_device import FakeDevice
from harness import Coupling, CouplingStep, Recipe, TaskFailed, streams
from harness.networks.flat_network import FlatNetwork
from harness.training.cuda_graph import CapturePolicy
from harness.training.joint import JointTraining, SideBySide, matrix_mask
from harness.training.loop import train_together
from harness.training.mixture import AtMixtures
from harness.training.point import EpochRecord, Point
from harness_basin.populations.couplings.mixture import Mixture
from harness_basin.populations.couplings.pull import Pull
from harness_basin.populations.couplings.shuffle import Shuffle
from siblings import STILL, Family, equal, perceptron, results, same, train_alone
from training.device_cases import RECIPES, Siblings
from training.recorded_graphs import RecordedGraphs

STREAM = ("coupling", 0)
RECIPE = Recipe(epochs=2, batch_size=20, learning_rate=0.05, clip_norm=1.0)
STEPS = 4  # per epoch
PULL = Pull(Pull.Options(alpha=0.5, every=3))
SHUFFLE = Shuffle(Shuffle.Options(p=0.1))
MIXTURE = Mixture()


class Nothing(Coupling):
    """Ties nothing."""

    name = "nothing"


def joint(
    coupling: Coupling, recipe: Recipe = RECIPE, members: int = 3, family: Family | None = None, **options: Any
) -> tuple[JointTraining, list[Point]]:
    """Return the joint training of some perceptrons on blobs, and their starts."""
    family = family or Family("perceptron", recipe, **options)
    pairs = [family.sibling(member) for member in range(members)]
    trainers, starts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if coupling.mixes:
        return AtMixtures(trainers[0], members, coupling, STREAM), starts
    return SideBySide(trainers, coupling, STREAM), starts


def alone(member: int, recipe: Recipe = RECIPE, **options: Any) -> Point:
    """Return where a member ends that is trained alone."""
    trainer, start = Family("perceptron", recipe, **options).sibling(member)
    return train_alone(trainer, start, recipe.epochs)


def stop_after(last_step: int) -> Callable[[], bool]:
    """Return a function that returns True once it was asked before `last_step` steps."""
    questions = iter(range(100))
    return lambda: next(questions) >= last_step


@pytest.mark.parametrize(
    "coupling",
    [Nothing(), Pull(Pull.Options(alpha=1, every=1)), Shuffle(Shuffle.Options(p=0))],
    ids=lambda coupling: coupling.name,
)
@pytest.mark.parametrize("options", [{}, {"batchnorm": True, "dropout": 0.2}], ids=["plain", "batchnorm"])
def test_coupling_that_changes_nothing(coupling: Coupling, options: dict[str, Any]) -> None:
    """The members are those that are trained alone, to the bit."""
    training, starts = joint(coupling, **options)
    ends = training.run(starts, RECIPE.epochs)
    assert all(same(end, alone(member, **options)) for member, end in enumerate(ends))


def test_full_pull() -> None:
    """At α = 0, all members are equal after the first pull; without one they are not."""
    training, starts = joint(Pull(Pull.Options(alpha=0, every=3, scaled=False)))
    before, after = (training.run(starts, RECIPE.epochs, stopping=stop_after(step)) for step in (2, 3))
    assert not equal(before[0].weights, before[1].weights)
    assert all(equal(end.weights, after[0].weights) for end in after)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("options", [{}, {"batchnorm": True, "dropout": 0.2}], ids=["plain", "batchnorm"])
def test_mixture_of_one_network(optimizer: str, options: dict[str, Any]) -> None:
    """It is the plain training, to the bit: weights, optimizer memory and history."""
    recipe = RECIPE.replace(optimizer=optimizer)
    training, starts = joint(MIXTURE, recipe, members=1, **options)
    vertex, mixture = training.run(starts, recipe.epochs)
    expected = alone(0, recipe, **options)
    assert equal(vertex.weights, expected.weights)
    assert all(equal(vertex.memory[name], expected.memory[name]) for name in expected.memory)
    assert results(mixture) == results(expected)
    assert vertex.optimizer_steps == expected.optimizer_steps


@pytest.mark.parametrize("coupling", [PULL, SHUFFLE, MIXTURE], ids=lambda coupling: coupling.name)
def test_training_stopped_after_any_step_continues(coupling: Coupling) -> None:
    """Continued in new trainers, it ends with the points of an uninterrupted one, to the bit."""
    options = {"batchnorm": True, "dropout": 0.2}
    training, starts = joint(coupling, **options)
    whole = training.run(starts, RECIPE.epochs)
    for last_step in (1, STEPS, STEPS + 2):
        first, starts = joint(coupling, **options)
        stopped = first.run(starts, RECIPE.epochs, stopping=stop_after(last_step))
        assert stopped[0].step == last_step
        again, _ = joint(coupling, **options)
        continued = again.run(stopped, RECIPE.epochs)
        assert all(same(one, other) for one, other in zip(continued, whole, strict=True))


class Fixed(Coupling):
    """Always the same mixture of three networks."""

    name, mixes = "fixed", True
    shares = (0.5, 0.3, 0.2)

    def mixture(self, members: int, step: CouplingStep) -> Sequence[float]:
        return self.shares


def loss_at(states: Sequence[dict[str, Tensor]], shares: Sequence[float], indices: Tensor) -> Tensor:
    """Return the loss of a mixture of perceptrons on images of the blobs, in float64, by torch alone."""
    family = Family("perceptron", RECIPE)
    mixed = {name: sum(share * state[name].double() for share, state in zip(shares, states, strict=True)) for name in states[0]}
    module = perceptron(0).double()
    logits = torch.func.functional_call(module, mixed, (family.augmenter.plain(indices).double(),))
    return F.cross_entropy(logits, family.labels[indices])


def test_gradient_of_a_vertex() -> None:
    """A step moves vertex i by −rate · λ_i times the gradient at the mixture: by finite differences of vertex i."""
    recipe = Recipe(epochs=1, batch_size=20, learning_rate=0.05, momentum=0, weight_decay=0, augmentation=STILL, warmup=0)
    training, starts = joint(Fixed(), recipe)
    ends = training.run(starts, 1, stopping=stop_after(1))
    order = streams.permutation(streams.key("order", 0, 0, "batches", 0), 96)[:20]
    rate = recipe.cosine(0.5 / STEPS)
    states = [start.weights for start in starts]
    for index in range(3):
        for name in states[0]:
            direction = torch.zeros_like(states[0][name], dtype=torch.float64)
            direction.view(-1)[::7] = 1
            losses = []
            for sign in (1, -1):
                moved = [dict(state) for state in states]
                moved[index][name] = moved[index][name].double() + sign * 1e-4 * direction
                losses.append(float(loss_at(moved, Fixed.shares, order)))
            slope = (losses[0] - losses[1]) / 2e-4
            step = ((ends[index].weights[name] - states[index][name]).double() * direction).sum()
            assert float(step) == pytest.approx(-rate * slope, rel=1e-3, abs=1e-6)


def test_weight_decay_of_a_mixture() -> None:
    """It falls on each vertex, where a gradient that is shared would not take it: by a network that gets none of the loss."""
    recipe = Recipe(epochs=1, batch_size=20, learning_rate=0.05, momentum=0, weight_decay=0.1, augmentation=STILL, warmup=0)
    coupling = Fixed()
    coupling.shares = (1.0, 0.0, 0.0)
    training, starts = joint(coupling, recipe)
    ends = training.run(starts, 1, stopping=stop_after(1))
    for name, tensor in starts[1].weights.items():
        torch.testing.assert_close(ends[1].weights[name], tensor * (1 - 0.1 * recipe.cosine(0.5 / STEPS)))


def test_large_penalty() -> None:
    """It makes the networks orthogonal, which start with something in common."""
    recipe = RECIPE.replace(epochs=30, weight_decay=0.0, momentum=0.0, clip_norm=None)
    family = Family("perceptron", recipe)
    training, starts = joint(Mixture(Mixture.Options(beta=10)), recipe, family=family)
    common = family.module(7).state_dict()
    for start in starts:
        start.weights = {name: tensor + common[name] for name, tensor in start.weights.items()}
    ends = training.run(starts, 30)[:3]
    assert min(cosines(starts, family)) > 0.3
    assert max(abs(cosine) for cosine in cosines(ends, family)) < 0.05


def cosines(points: Sequence[Point], family: Family) -> list[float]:
    """Return the cosines of the first network's matrices with those of the others."""
    network = FlatNetwork(family.module(0))
    mask = matrix_mask(network)
    vectors = [network.flatten(point.weights)[: len(mask)] * mask for point in points]
    return [float(F.cosine_similarity(vectors[0], other, dim=0)) for other in vectors[1:]]


def test_matrices() -> None:
    """The mask has the weights of linear layers, not biases, normalizations or gaps."""
    network = FlatNetwork(perceptron(0, batchnorm=True))
    assert int(matrix_mask(network).sum()) == 16 * 12 + 12 * 4


def test_parameter_that_no_gradient_reaches() -> None:
    """No vertex moves it, by weight decay or otherwise."""
    recipe = RECIPES["adamw"].replace(epochs=1, batch_size=48)
    training, starts = joint(MIXTURE, recipe, family=Siblings("unused parameter", recipe))
    ends = training.run(starts, 1)
    assert all(torch.equal(end.weights["spare"], torch.ones(3)) for end in ends)


@pytest.mark.parametrize("coupling", [Pull(Pull.Options(every=1)), SHUFFLE, MIXTURE], ids=lambda coupling: coupling.name)
def test_steps_on_a_fake_device(coupling: Coupling) -> None:
    """A coupled step reads nothing back, and computes what it does on the CPU, to the bit."""
    recipe = RECIPES["sgd"].replace(epochs=2, batch_size=48)
    ends = []
    with FakeDevice() as device:
        training, starts = joint(coupling, recipe, family=Siblings("batchnorm", recipe, "ipu"))
        ends.append(training.run(starts, 2))
    training, starts = joint(coupling, recipe, family=Siblings("batchnorm", recipe))
    ends.append(training.run(starts, 2))
    assert all(same(one, other) for one, other in zip(*ends, strict=True))
    reads = {"trainer.Trainer._read_sums", "trainer.Trainer._weights_are_finite"}
    if coupling.mixes:
        reads.add("mixture.MixtureTrainer._weights_are_finite")
    assert device.reads == reads


@pytest.mark.parametrize("coupling", [Pull(Pull.Options(every=1)), SHUFFLE, MIXTURE], ids=lambda coupling: coupling.name)
def test_captured_steps(coupling: Coupling) -> None:
    """Coupled between the replays of a graph, the networks are those of eager steps, to rounding: a rate is then a tensor."""
    ends, manners = [], []
    for capture_from in (0, 10**9):
        policy = CapturePolicy(capture_from, backend=lambda device: RecordedGraphs())
        training, starts = joint(coupling, batchnorm=True)
        train = partial(train_together, capture_policy=policy)
        ends.append(training.run(starts, 2, train=train, on_stepping=lambda stepping: manners.append(stepping.manner)))
    assert manners == ["captured", "eager"]
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one.weights, other.weights, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.memory, other.memory, rtol=1e-3, atol=1e-4)


class Breaking(Coupling):
    """Makes one network infinite in its fifth step."""

    name = "breaking"

    def after_step(self, members: Sequence[Tensor], step: CouplingStep) -> None:
        if step.number == STEPS + 1:
            members[1].fill_(float("inf"))


def test_member_that_diverges() -> None:
    """It fails the joint training in its epoch, by its index; no epoch follows."""
    records: list[EpochRecord] = []
    training, starts = joint(Breaking(), RECIPE.replace(epochs=4))
    expected = (
        r"^member 1 of a joint training diverged in epoch 2: .*; lower the learning rate or weaken the coupling 'breaking'$"
    )
    with pytest.raises(TaskFailed, match=expected):
        training.run(starts, 4, after_epoch=lambda record, points: records.append(record))
    assert [record.epoch for record in records] == [1]


def test_record_of_an_epoch() -> None:
    """It has the members' mean loss and accuracy."""
    records: list[EpochRecord] = []
    training, starts = joint(PULL)
    ends = training.run(starts, 1, after_epoch=lambda record, points: records.append(record))
    losses = [end.history[0].loss for end in ends]
    assert records[0].loss == pytest.approx(sum(losses) / 3)
