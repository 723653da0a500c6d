"""The sample of training images from which running statistics are recomputed. Knows nothing of networks."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import streams

SAMPLE_SIZE = 2048
"""The largest number of training images from which statistics are recomputed."""

BATCH_SIZE = 128
"""The largest number of images per batch; equal on every device, since a batch is normalized by its own statistics."""


def sample_batches(images: Tensor) -> Tensor:
    """Choose the images for recomputed statistics: images uint8 (n, channels, height, width) to indices int64 (batches, batch).

    The sample is random, and the same for every network, point and device. It depends on the images' contents and not on their
    order: images are ranked by a hash of their bytes and, for the k-th copy of an image, of k. All batches have the same size,
    so that every image has the same weight and no batch is a single remaining image.
    """
    count = min(SAMPLE_SIZE, len(images))
    batches = -(-count // BATCH_SIZE)
    size = count // batches
    order = torch.argsort(_content_ranks(images), stable=True)
    return order[: batches * size].view(batches, size)


def _content_ranks(images: Tensor) -> Tensor:
    """Return a random number per image that depends on its bytes and on how many equal images precede it, int64 (n,)."""
    digests = _digests(images)
    order = torch.argsort(digests, stable=True)
    ordered = digests[order]
    positions = torch.arange(len(images))
    first = torch.ones(len(images), dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    copies = positions - torch.cummax(torch.where(first, positions, 0), dim=0).values
    ranks = torch.empty_like(digests)
    ranks[order] = streams.bits(ordered, copies)
    return ranks


def _digests(images: Tensor) -> Tensor:
    """Return a 64-bit hash of every image's bytes, int64 (n,): multilinear, with random odd factors."""
    rows = images.flatten(1)
    padding = -rows.shape[1] % 8
    words = torch.nn.functional.pad(rows, (0, padding)).contiguous().view(torch.int64)
    factors = streams.bits(streams.key("statistics", "digest"), torch.arange(words.shape[1])) | 1
    # In parts, since the products take eight times the images' memory.
    sums = [(part * factors).sum(1) for part in words.split(4096)]
    return streams.bits(streams.key("statistics", "sample"), torch.cat(sums))
