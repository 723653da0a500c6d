"""The interpolated network: precision, buffers that cannot be interpolated, running statistics."""

from __future__ import annotations

from functools import partial
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
from harness.registry.catalogue import load_catalogue


def blob_images() -> NormalizedImages:
    """Return the test images of blobs."""
    _, test = toys.Blobs().load(Path())
    return NormalizedImages(test, toys.Blobs.normalization, torch.device("cpu"))


@pytest.fixture
def interpolated() -> InterpolatedNetwork:
    """The network between three perceptrons of blobs."""
    images = blob_images()
    flat = FlatNetwork(toys.Perceptron().build((1, 4, 4), 4))
    members = [torch.randn(len(flat.vector), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    return InterpolatedNetwork(flat, [flat.unflatten(member) for member in members], images, images)


@pytest.mark.parametrize("cache", [True, False])
def test_evaluation_within_autocast(interpolated: InterpolatedNetwork, cache: bool) -> None:
    """Neither autocast's precision nor its cached weights, those of the first point, change the logits."""
    points = np.random.default_rng(0).dirichlet(np.ones(3), size=4)
    labels = np.zeros(len(interpolated.test.images), dtype=np.int64)

    def logits() -> list[torch.Tensor]:
        found = []
        for point in points:
            interpolated.correct(point, labels)
            found.append(predict(interpolated.network, interpolated.test))
        return found

    expected = logits()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
        assert all(torch.equal(one, other) for one, other in zip(logits(), expected, strict=True))
    assert not torch.equal(expected[0], expected[1])


def test_weights_at_a_point(interpolated: InterpolatedNetwork) -> None:
    """They are Σ λ_i θ_i; at a vertex they equal the member's to the bit."""
    point = np.array([0.2, 0.3, 0.5])
    interpolated.move(point)
    expected = sum(float(weight) * member for weight, member in zip(point, interpolated.matrix, strict=True))
    torch.testing.assert_close(interpolated.network.vector, expected)
    interpolated.move(np.array([0.0, 1.0, 0.0]))
    assert torch.equal(interpolated.network.vector, interpolated.matrix[1])


class Masked(nn.Module):
    """A linear classifier of blobs with a boolean mask, an integer permutation, and a counter without effect."""

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
    """Return the network between masked classifiers; all have the first one's buffers that are named in `common`."""
    states = [FlatNetwork(Masked(seed)).state() for seed in seeds]
    for state in states:
        state.update({name: states[0][name] for name in common})
    return InterpolatedNetwork(FlatNetwork(Masked(99)), states, blob_images(), blob_images(), label="architecture 'masked'")


def test_member_is_evaluated_with_its_own_buffers() -> None:
    """At a vertex the network computes what the member computes, whatever buffers the others have."""
    interpolated = masked_members(0, 1, 2)
    for index, seed in enumerate((0, 1, 2)):
        interpolated.move(np.eye(3)[index])
        assert torch.equal(
            predict(interpolated.network, interpolated.test), predict(FlatNetwork(Masked(seed)), interpolated.test)
        )


def test_common_buffers_are_used_between_members() -> None:
    """Buffers that are equal in all members are used at every point."""
    interpolated = masked_members(0, 1, common=("mask", "order"))
    interpolated.move(np.array([0.25, 0.75]))
    assert torch.equal(interpolated.network.module.mask, Masked(0).mask)
    assert torch.equal(interpolated.network.module.order, Masked(0).order)


def test_buffers_that_differ_are_refused() -> None:
    """A mask that differs between members cannot be interpolated: the error names the architecture and the buffer."""
    interpolated = masked_members(0, 1, common=("order", "counter"))
    message = (
        "architecture 'masked': members cannot be interpolated: they differ in 'mask', of which no mean can be taken, and "
        "their logits depend on it; make it the same for all members"
    )
    labels = np.zeros(len(interpolated.test), dtype=np.int64)
    for _ in range(2):
        with pytest.raises(TaskFailed, match=message):
            interpolated.correct(np.array([0.5, 0.5]), labels)
    interpolated.correct(np.array([1.0, 0.0]), labels)


def test_counter_that_differs_without_effect_is_ignored() -> None:
    """BatchNorm's batch counter, for example, differs after different numbers of steps, and no output depends on it."""
    interpolated = masked_members(0, 1, common=("mask", "order"))
    interpolated.move(np.array([0.5, 0.5]))
    assert int(interpolated.network.module.counter) == 0


def test_running_statistics() -> None:
    """Between members BatchNorm's mean is that of the training images' activations; at a member it is the member's."""
    flat = FlatNetwork(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)).build((1, 4, 4), 4))
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        states.append(FlatNetwork(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)).build((1, 4, 4), 4)).state())
    images = blob_images()
    interpolated = InterpolatedNetwork(flat, states, images, images, corrections=partial(load_catalogue().choose, "correction"))
    assert interpolated.has_running_statistics
    interpolated.move(np.array([0.25, 0.75]))
    hidden = {name: 0.25 * states[0][name] + 0.75 * states[1][name] for name in ("1.weight", "1.bias")}
    pixels = torch.cat(list(images.batches())).flatten(1)
    expected = (pixels @ hidden["1.weight"].T + hidden["1.bias"]).mean(0)
    torch.testing.assert_close(flat.state()["2.running_mean"], expected, rtol=1e-4, atol=1e-5)
    interpolated.move(np.array([0.25, 0.75]), correction="none")
    assert torch.equal(flat.state()["2.running_mean"], torch.zeros(12))
    interpolated.move(np.array([0.0, 1.0]))
    assert torch.equal(flat.vector, interpolated.matrix[1])


def test_measurement_is_interrupted() -> None:
    """Every point checks first whether the user wants to stop."""
    images = blob_images()
    flat = FlatNetwork(Masked(0))
    interpolated = InterpolatedNetwork(flat, [flat.state()], images, images, stopping=lambda: True)
    with pytest.raises(Interrupted):
        interpolated.correct(np.array([1.0]), np.zeros(len(images), dtype=np.int64))


@pytest.mark.parametrize("n", [1, 2, 5, 64, 65])
def test_sizes_of_evaluation_batches_differ_by_at_most_one(n: int) -> None:
    """All images are in their order, and no batch is a single remaining image."""
    split = toys.Blobs().load(Path())[1]
    pictures = torch.arange(n * 64 * 64).view(n, 1, 64, 64).to(torch.uint8)
    images = NormalizedImages(Split(pictures, split.labels[:1].expand(n)), ((0.0,), (1 / 255,)), torch.device("cpu"))
    batches = list(images.batches())
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat(batches), pictures.float())
