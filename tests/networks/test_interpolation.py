"""The network at combinations of members: precision, buffers that cannot be interpolated, running statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import toys
from harness import Split
from harness.errors import Interrupted, TaskFailed
from harness.networks.evaluation import NormalizedImages, predict
from harness.networks.flat_network import FlatNetwork
from harness.networks.interpolation import InterpolatedNetwork


def blob_images() -> NormalizedImages:
    """The test images of blobs."""
    _, test = toys.Blobs().load(Path())
    return NormalizedImages(test, toys.Blobs.normalization, torch.device("cpu"))


@pytest.fixture
def between() -> InterpolatedNetwork:
    """Three perceptrons of blobs, and the way between them."""
    images = blob_images()
    flat = FlatNetwork(toys.Perceptron().build((1, 4, 4), 4))
    members = [torch.randn(len(flat.vector), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    return InterpolatedNetwork(flat, [flat.unflatten(member) for member in members], images, images)


@pytest.mark.parametrize("cache", [True, False])
def test_autocast_around_an_evaluation_changes_nothing(between: InterpolatedNetwork, cache: bool) -> None:
    """Neither its precision nor the weights that it keeps, which would be those of the first point."""
    points = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    labels = np.zeros(len(between.test.images), dtype=np.int64)

    def logits() -> list[torch.Tensor]:
        found = []
        for point in points:
            between.correct(point, labels)
            found.append(predict(between.network, between.test))
        return found

    wanted = logits()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
        assert all(torch.equal(found, right) for found, right in zip(logits(), wanted, strict=True))
    assert not torch.equal(wanted[0], wanted[1])


def test_point_is_the_combination_of_the_members(between: InterpolatedNetwork) -> None:
    """λ @ Θ, and a corner is that member to the bit."""
    point = np.array([0.2, 0.3, 0.5])
    between.move(point)
    wanted = sum(float(weight) * member for weight, member in zip(point, between.matrix, strict=True))
    torch.testing.assert_close(between.network.vector, wanted)
    between.move(np.array([0.0, 1.0, 0.0]))
    assert torch.equal(between.network.vector, between.matrix[1])


class Masked(nn.Module):
    """A linear classifier of blobs behind a boolean mask and an integer order, with a counter of no effect."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(16, 4)
        self.linear.weight.data.normal_(generator=generator)
        self.linear.bias.data.zero_()
        self.register_buffer("mask", torch.rand(16, generator=generator) < 0.5)
        self.register_buffer("order", torch.randperm(16, generator=generator))
        self.register_buffer("counter", torch.tensor(seed))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)[:, self.order] * self.mask)


def masked_members(*seeds: int, common: tuple[str, ...] = ()) -> InterpolatedNetwork:
    """Return the network between masked classifiers; buffers named in `common` are the first one's in all."""
    states = [FlatNetwork(Masked(seed)).state() for seed in seeds]
    for state in states:
        state.update({name: states[0][name] for name in common})
    return InterpolatedNetwork(FlatNetwork(Masked(99)), states, blob_images(), blob_images(), label="architecture 'masked'")


def test_member_is_evaluated_with_its_own_buffers() -> None:
    """At a corner of the simplex the network computes what the member does, whatever buffers the others have."""
    between = masked_members(0, 1, 2)
    for index, seed in enumerate((0, 1, 2)):
        between.move(np.eye(3)[index])
        assert torch.equal(predict(between.network, between.test), predict(FlatNetwork(Masked(seed)), between.test))


def test_common_buffers_are_used_between_members() -> None:
    """Where members agree in what cannot be interpolated, that is what the network in between has."""
    between = masked_members(0, 1, common=("mask", "order"))
    between.move(np.array([0.25, 0.75]))
    assert torch.equal(between.network.module.mask, Masked(0).mask)
    assert torch.equal(between.network.module.order, Masked(0).order)


def test_buffers_that_differ_are_refused_by_name() -> None:
    """A mask that differs between members has no value in between: an error names the architecture and the buffer."""
    between = masked_members(0, 1, common=("order", "counter"))
    message = (
        "architecture 'masked': members cannot be interpolated: they differ in 'mask', of which no mean can be taken, and "
        "their logits "
        "depend on it; make it the same for all members"
    )
    labels = np.zeros(len(between.test), dtype=np.int64)
    for _ in range(2):
        with pytest.raises(TaskFailed, match=message):
            between.correct(np.array([0.5, 0.5]), labels)
    between.correct(np.array([1.0, 0.0]), labels)


def test_counter_that_differs_without_effect_is_ignored() -> None:
    """BatchNorm's batch counter, say, differs between members of other lengths, and no output depends on it."""
    between = masked_members(0, 1, common=("mask", "order"))
    between.move(np.array([0.5, 0.5]))
    assert int(between.network.module.counter) == 0


def test_statistics_are_recomputed_between_members_and_their_own_at_members() -> None:
    """BatchNorm's mean between members is that of the training images' activations there, by hand."""
    flat = FlatNetwork(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)).build((1, 4, 4), 4))
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(FlatNetwork(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)).build((1, 4, 4), 4)).state())
    images = blob_images()
    between = InterpolatedNetwork(flat, states, images, images)
    assert between.has_running_statistics
    between.move(np.array([0.25, 0.75]))
    hidden = {name: 0.25 * states[0][name] + 0.75 * states[1][name] for name in ("1.weight", "1.bias")}
    pixels = torch.cat(list(images.batches())).flatten(1)
    expected = (pixels @ hidden["1.weight"].T + hidden["1.bias"]).mean(0)
    torch.testing.assert_close(flat.state()["2.running_mean"], expected, rtol=1e-4, atol=1e-5)
    between.move(np.array([0.25, 0.75]), batchnorm="interpolate")
    assert torch.equal(flat.state()["2.running_mean"], torch.zeros(12))
    between.move(np.array([0.0, 1.0]))
    assert torch.equal(flat.vector, between.matrix[1])


def test_user_who_wants_to_stop_need_not_wait_for_a_measurement() -> None:
    """Every point asks first."""
    images = blob_images()
    flat = FlatNetwork(Masked(0))
    between = InterpolatedNetwork(flat, [flat.state()], images, images, stopping=lambda: True)
    with pytest.raises(Interrupted):
        between.correct(np.array([1.0]), np.zeros(len(images), dtype=np.int64))


@pytest.mark.parametrize("n", [1, 2, 5, 64, 65])
def test_batches_of_evaluation_differ_by_one_image_at_most(n: int) -> None:
    """All images come in order, and none is left over for a batch of its own."""
    split = toys.Blobs().load(Path())[1]
    pictures = torch.arange(n * 64 * 64).view(n, 1, 64, 64).to(torch.uint8)
    images = NormalizedImages(Split(pictures, split.labels[:1].expand(n)), ((0.0,), (1 / 255,)), torch.device("cpu"))
    batches = list(images.batches())
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat(batches), pictures.float())
