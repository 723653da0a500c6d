"""The sample of images from which running statistics are recomputed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.networks.statistics_sample import BATCH_SIZE, SAMPLE_SIZE, sample_batches


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 1, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def chosen(pictures: Tensor) -> list[bytes]:
    """Return the sample's images in its order, as bytes."""
    indices = sample_batches(pictures).flatten().tolist()
    return [bytes(pictures[index].flatten().tolist()) for index in indices]


def test_sample_does_not_depend_on_the_order_of_the_images() -> None:
    """The same images are chosen, in the same order, however the data set is sorted, also if images are repeated."""
    pictures = torch.cat([images(700)] * 4)
    shuffled = pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(1))]
    by_content = sorted(pictures, key=lambda image: image.flatten().tolist())
    assert chosen(pictures) == chosen(shuffled) == chosen(torch.stack(by_content))


def test_sample_of_repeated_images() -> None:
    """Of 400 images with 15 copies each, a sample has nearly all, rather than all copies of a few."""
    sample = chosen(torch.cat([images(400)] * 15))
    assert len(set(sample)) > 390


def test_sample_is_random() -> None:
    """The sample's mean brightness is that of the data set, also if the data set is sorted by brightness."""
    pictures = torch.arange(10_000).view(-1, 1, 1, 1).mul(255).div(9_999).to(torch.uint8).expand(-1, 1, 5, 5)
    sample = pictures[sample_batches(pictures).flatten()].double()
    assert abs(float(sample.mean()) - 127.5) < 5


@pytest.mark.parametrize("n", [1, 2, 3, 126, 127, 128, 129, 130, 257, 1437, 2047, 2048, 2049, 5000])
def test_batches_have_equal_sizes(n: int) -> None:
    """No batch is larger than the limit or a single image, and nearly the whole sample is used."""
    batches = sample_batches(images(n))
    count, size = batches.shape
    assert size <= BATCH_SIZE
    assert size > 1 or n == 1
    assert count * size > min(n, SAMPLE_SIZE) - count
    assert len(batches.flatten().unique()) == count * size


def test_images_of_odd_sizes_are_hashed_completely() -> None:
    """Images that differ only in their last byte have different hashes."""
    one = torch.zeros(3, 1, 3, 3, dtype=torch.uint8)
    other = torch.zeros(3, 1, 3, 3, dtype=torch.uint8)
    other[1, 0, 2, 2] = 1
    one[0, 0, 2, 2] = 1
    assert chosen(one) == chosen(other)
