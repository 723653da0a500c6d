"""The training images of an epoch in batches, in an order drawn from a stream. Knows nothing of networks or objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness import streams
from harness.api.scalars import integer
from harness.networks.evaluation import NormalizedImages
from harness.training.augmentation import Augmenter


class EpochBatches:
    """Training images on a device, which are read epoch by epoch.

    `before_batch` is called before each batch; it may raise an exception. The order of an epoch is a function of (stream,
    epoch), and an image's augmentation of (stream, epoch, image).
    """

    def __init__(
        self,
        images: NormalizedImages,
        labels: Tensor,
        augmenter: Augmenter,
        stream: int,
        before_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._images = images
        self._labels = labels
        self._augmenter = augmenter
        self._stream = stream
        self._before_batch = before_batch

    def __call__(self, epoch: int, batch_size: int, *, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image of an epoch once, as `harness.api.derivation.Batches` describes."""
        if integer(epoch, "epoch") < 0:
            raise ValueError(f"epoch {epoch}: epochs count from 0")
        if integer(batch_size, "batch_size") < 1:
            raise ValueError(f"batch_size {batch_size}: at least 1 is expected")
        return self._batches(epoch, batch_size, augmented)

    def _batches(self, epoch: int, batch_size: int, augmented: bool) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._labels)
        order = streams.permutation(streams.key("batches", self._stream, epoch), count, self._labels.device)
        augmentation = streams.key("augmentation", self._stream, epoch)
        for indices in torch.tensor_split(order, -(-count // batch_size)):
            self._before_batch()
            images = self._augmenter(indices, augmentation) if augmented else self._images.take(indices)
            yield images, self._labels[indices]
