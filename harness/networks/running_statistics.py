"""Running statistics of a network: found by what a training-mode pass changes, recomputed from a fixed sample of images.

No convex combination of weights gets running statistics (BatchNorm's, say) right: they belong to the activations of the
combined network. They are recognized by behavior, not by class: floating-point buffers that a forward pass in training mode
updates by a moving average, new = a · old + (1 − a) · statistic, whatever module keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import streams
from harness.networks.flat_network import FlatNetwork, NamedTensor

SAMPLE_SIZE = 2048
"""Training images from which statistics are recomputed, at most."""

BATCH_SIZE = 128
"""Images per batch, at most; the same on every device, since a batch's own statistics normalize it."""

_LARGE = 1024.0  # an old value so large that a batch's own statistic is small beside it
_TOLERANCE = 1e-3  # of a moving average's line, in units of its statistic; rounding makes 1e-4 of it


def sample_batches(images: Tensor) -> Tensor:
    """Choose the images for recomputed statistics: uint8 (n, channels, height, width) to indices int64 (batches, batch).

    The sample is random and the same for every network, point and device. It depends on the images' contents and not on their
    order: images are ranked by a hash of their bytes, the k-th copy of one image by a hash of its own. All batches have the
    same size, so that every image counts alike and no batch is a single left-over image.
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
    sums = [(part * factors).sum(1) for part in words.split(4096)]  # in parts: products take eight times the images' memory
    return streams.bits(streams.key("statistics", "sample"), torch.cat(sums))


@dataclass(frozen=True)
class RunningBuffer:
    """A buffer that keeps a moving average. `keep` is the weight of its old value in an update, in [0, 1)."""

    buffer: NamedTensor
    keep: float


class RunningStatistics:
    """The running statistics of a network, and how to compute them anew at whatever weights the network has.

    `batches` yields the normalized images of the sample, float32 (batch, channels, height, width). `unexplained` names buffers
    that a training-mode pass changes in another way than a moving average does; these are left as they are.
    """

    def __init__(self, network: FlatNetwork, batches: Callable[[], Iterator[Tensor]]) -> None:
        self._network, self._batches = network, batches
        self.averages: tuple[RunningBuffer, ...] = ()
        self.unexplained: tuple[str, ...] = ()
        self._counters: list[Tensor] = []
        if network.buffers:
            self._find(next(batches()))

    @torch.no_grad()
    def recompute(self) -> None:
        """Set every statistic to its plain average over the batches.

        Only the modules that keep statistics are in training mode, so that dropout elsewhere does not blur them; each batch is
        normalized by its own statistics, as in training.
        """
        if not self.averages:
            return
        buffers = [average.buffer for average in self.averages]
        sums = [torch.zeros_like(buffer.tensor, dtype=torch.float64) for buffer in buffers]
        count = 0
        with self._measuring(buffers):
            for images in self._batches():
                for total, value in zip(sums, self._updated(buffers, images, [0.0] * len(buffers)), strict=True):
                    total += value
                count += 1
        for average, total in zip(self.averages, sums, strict=True):
            average.buffer.tensor.copy_(total / (count * (1 - average.keep)))

    @torch.no_grad()
    def _find(self, images: Tensor) -> None:
        """Find the buffers that a training-mode pass changes, and the weight of each one's moving average."""
        changed = self._changed_by(images)
        with self._measuring(changed):
            zeros = self._updated(changed, images, [0.0] * len(changed))
            scales = [_LARGE * max(1.0, float(value.abs().max())) for value in zeros]
            large = self._updated(changed, images, scales)
            half = self._updated(changed, images, [scale / 2 for scale in scales])
        averages = []
        unexplained = []
        for index, buffer in enumerate(changed):
            keep = _weight(zeros[index], half[index], large[index], scales[index])
            if keep is None:
                unexplained.append(buffer.name)
            else:
                averages.append(RunningBuffer(buffer, keep))
        self.averages, self.unexplained = tuple(averages), tuple(unexplained)

    def _changed_by(self, images: Tensor) -> list[NamedTensor]:
        """Return the buffers in the vector that a pass of the whole network in training mode changes; all is put back."""
        network = self._network
        before = network.vector.clone()
        counters = {name: buffer.clone() for name, buffer in network.fixed_buffers.items()}
        network.module.train()
        with streams.seeded(0, network.vector.device), torch.enable_grad():  # some update only where gradients are computed
            network.module(images)
        network.module.eval()
        changed = []
        for buffer, slot in zip(network.buffers, network.buffer_slots, strict=True):
            if not torch.equal(buffer.current, slot.view(before)):
                changed.append(buffer)
        for name, counter in network.fixed_buffers.items():
            if not torch.equal(counter, counters[name]):
                self._counters.append(counter)
                counter.copy_(counters[name])
        network.set_vector(before)
        return changed

    @contextmanager
    def _measuring(self, buffers: Sequence[NamedTensor]) -> Iterator[None]:
        """Put the modules that keep these buffers, and no others, in training mode; put all values back afterwards."""
        network = self._network
        before = network.vector.clone()
        counters = [counter.clone() for counter in self._counters]
        network.module.eval()
        for buffer in buffers:
            buffer.owner.training = True  # train() would do the same to modules inside it
        try:
            with streams.seeded(0, network.vector.device):
                yield
        finally:
            network.module.eval()
            network.set_vector(before)
            for counter, value in zip(self._counters, counters, strict=True):
                counter.copy_(value)

    def _updated(self, buffers: Sequence[NamedTensor], images: Tensor, old: Sequence[float]) -> list[Tensor]:
        """Return what a pass makes of buffers whose elements all have an old value; counters start from 0. float64."""
        for buffer, value in zip(buffers, old, strict=True):
            buffer.tensor.fill_(value)
            buffer.restore()
        for counter in self._counters:
            counter.zero_()
        self._network.module(images)
        return [buffer.current.double() for buffer in buffers]


def _weight(zero: Tensor, half: Tensor, large: Tensor, scale: float) -> float | None:
    """Return the weight of the old value in an update, given the new values for the old ones 0, scale / 2 and scale.

    None if the buffer is no moving average: if its new value is not a line in the old one, with one slope for all elements.
    """
    slopes = (large - zero) / scale
    keep = float(slopes.median())
    size = max(1.0, float(zero.abs().max()))
    bent = float((half - (zero + large) / 2).abs().max()) / size
    uneven = float((slopes - keep).abs().max())
    if not (bent < _TOLERANCE and uneven < _TOLERANCE and -_TOLERANCE < keep < 1 - _TOLERANCE):
        return None
    return max(0.0, keep)
