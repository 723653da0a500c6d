"""The training images of an epoch, as derivations read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import stop_after
from harness import DerivationContext, streams
from harness.errors import Interrupted
from harness.networks.evaluation import NormalizedImages
from harness.testing import derivation_context
from harness.training.augmentation import Augmenter
from harness.training.epoch_batches import EpochBatches


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """A context of toys."""
    return derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 95, 96, 97, 1000])
def test_images_of_an_epoch(context: DerivationContext, batch_size: int) -> None:
    """Every training image comes once, normalized, with its label; batches are as equal as they can be."""
    batches = list(context.batches(3, batch_size))
    sizes = [len(labels) for _, labels in batches]
    assert sum(sizes) == 96
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-96 // batch_size)
    expected = (context.train.images.float() / 255 - 0.5) / 0.25
    found = torch.cat([images for images, _ in batches])
    assert found.dtype == torch.float32
    positions = [int((expected - image).abs().amax((1, 2, 3)).argmin()) for image in found]
    assert sorted(positions) == list(range(96))
    torch.testing.assert_close(found, expected[positions], rtol=0, atol=1e-6)
    assert torch.equal(torch.cat([labels for _, labels in batches]), context.train.labels[positions])


def test_order_of_images(context: DerivationContext, tmp_path: Path) -> None:
    """It is that of the stream and the epoch: equal each time, other for other epochs and streams, and not the file's."""
    first, again, next_epoch = (torch.cat([y for _, y in context.batches(epoch, 10)]) for epoch in (0, 0, 1))
    other = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path, seed=1)
    other_stream = torch.cat([y for _, y in other.batches(0, 10)])
    assert torch.equal(first, again)
    for different in (next_epoch, other_stream, context.train.labels):
        assert not torch.equal(first, different)


def test_augmented_images(context: DerivationContext) -> None:
    """They have the same labels, and other pixels in every epoch."""
    plain = list(context.batches(0, 96))
    augmented = list(context.batches(0, 96, augmented=True))
    assert torch.equal(plain[0][1], augmented[0][1])
    assert plain[0][0].shape == augmented[0][0].shape
    assert not torch.allclose(plain[0][0], augmented[0][0])


@pytest.mark.parametrize(
    ("epoch", "batch_size", "message"),
    [
        (-1, 8, "epoch -1: epochs count from 0"),
        (0, 0, "batch_size 0: at least 1 is expected"),
        (0.5, 8, "epoch must be an integer, not 0.5"),
        (0, True, "batch_size must be an integer, not True"),
    ],
)
def test_impossible_batches(context: DerivationContext, epoch: Any, batch_size: Any, message: str) -> None:
    """They are refused when they are asked for."""
    with pytest.raises(ValueError) as raised:
        context.batches(epoch, batch_size)
    assert str(raised.value) == message


def test_batches_that_may_not_go_on() -> None:
    """The exception of `before_batch` comes before the batch."""
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    labels = torch.arange(4)
    split = harness.Split(images, labels)
    cpu = torch.device("cpu")
    pictures = NormalizedImages(split, ((0.5,), (0.5,)), cpu)
    still = harness.Augmentation(crop_padding=0, horizontal_flip=False)
    augmenter = Augmenter(images, still, (0.5,), (0.5,), cpu)
    may_stop = stop_after(2)

    def before_batch() -> None:
        if may_stop():
            raise Interrupted

    batches = EpochBatches(pictures, labels, augmenter, streams.key("test"), before_batch)(0, 1)
    assert [len(next(batches)[1]), len(next(batches)[1])] == [1, 1]
    with pytest.raises(Interrupted):
        next(batches)
