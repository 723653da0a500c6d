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
from torch import Tensor, nn

from harness import streams
from harness.networks.flat_network import FlatNetwork, NamedTensor

SAMPLE_SIZE = 2048
"""Training images from which statistics are recomputed, at most."""

BATCH_SIZE = 128
"""Images per batch, at most; the same on every device, since a batch's own statistics normalize it."""

_LARGE = 1024.0  # an old value so large that a batch's own statistic is small beside it
_TOLERANCE = 1e-3  # of a moving average's line, in units of its statistic; rounding makes 1e-4 of it
_LEAST_SHARE = 1e-4  # of a batch in an update; rounding makes an error of 1e-7 in it
_SEEN = 2  # passes after which a buffer that is not changed counts as constant


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


@dataclass(frozen=True)
class _Manner:
    """How a network is run so that buffers are updated.

    `around`: the modules around those that keep the buffers are in training mode too. `from_zero`: counters start at 0.
    """

    around: bool
    from_zero: bool


_MANNERS = (_Manner(False, True), _Manner(False, False), _Manner(True, True), _Manner(True, False))


@dataclass(frozen=True)
class _Stage:
    """Moving averages that are measured at once.

    Their statistics may depend on those of earlier stages, which are held meanwhile, their modules in evaluation mode.
    """

    averages: tuple[RunningBuffer, ...]
    manner: _Manner

    @property
    def buffers(self) -> list[NamedTensor]:
        return [average.buffer for average in self.averages]


class RunningStatistics:
    """The running statistics of a network, and how to compute them anew at whatever weights the network has.

    `batches` yields the normalized images of the sample, float32 (batch, channels, height, width). `unexplained` names buffers
    that a training-mode pass changes in another way than a moving average does; these are left as they are.
    """

    def __init__(self, network: FlatNetwork, batches: Callable[[], Iterator[Tensor]]) -> None:
        self._network, self._batches = network, batches
        self.unexplained: tuple[str, ...] = ()
        self._stages: list[_Stage] = []
        self._counters: list[Tensor] = []
        self._sums: list[NamedTensor] = []  # counters among the buffers in the vector
        if network.buffers:
            self._find(next(batches()))

    @property
    def averages(self) -> tuple[RunningBuffer, ...]:
        """The buffers that are recomputed."""
        return tuple(average for stage in self._stages for average in stage.averages)

    def recompute(self) -> None:
        """Set every statistic to its plain average over the batches.

        Only the modules that update statistics are in training mode, so that dropout elsewhere does not blur them; each batch
        is normalized by its own statistics, as in training.
        """
        for stage in self._stages:
            self._recompute_stage(stage)

    def _recompute_stage(self, stage: _Stage) -> None:
        sums = [torch.zeros_like(buffer.tensor, dtype=torch.float64) for buffer in stage.buffers]
        zeros = [0.0] * len(sums)
        count = 0
        with self._measuring(stage.buffers, stage.manner):
            for images in self._batches():
                updated = self._updated(stage.buffers, images, zeros, stage.manner, draw=count)
                for total, value in zip(sums, updated, strict=True):
                    total += value
                count += 1
        for average, total in zip(stage.averages, sums, strict=True):
            average.buffer.tensor.copy_(total / (count * (1 - average.keep)))

    def _find(self, images: Tensor) -> None:
        """Find the buffers that a training-mode pass changes, and the weight of each one's moving average.

        Where a statistic depends on other statistics (batch renormalization), it is no line in the old values before these are
        held: then it belongs to a later stage.
        """
        left = self._changed_by(images)
        while left:
            stage = self._next_stage(left, images)
            if stage is None:
                break
            self._stages.append(stage)
            names = {buffer.name for buffer in stage.buffers}
            left = [buffer for buffer in left if buffer.name not in names]
        self.unexplained = tuple(buffer.name for buffer in left)

    def _next_stage(self, left: Sequence[NamedTensor], images: Tensor) -> _Stage | None:
        """Return the moving averages among buffers, in the first manner that shows any."""
        for manner in _MANNERS:
            averages = self._averages_among(left, images, manner)
            if not averages and self._sums:  # a counter may set the weight: it has to be held
                held = {counter.name for counter in self._sums}
                averages = self._averages_among([buffer for buffer in left if buffer.name not in held], images, manner)
            if averages:
                return _Stage(tuple(averages), manner)
        return None

    def _averages_among(self, buffers: Sequence[NamedTensor], images: Tensor, manner: _Manner) -> list[RunningBuffer]:
        """Return the buffers that are moving averages; note those that add something to their old value as counters."""
        with self._measuring(buffers, manner):
            zeros = self._updated(buffers, images, [0.0] * len(buffers), manner)
            scales = [_LARGE * max(1.0, float(value.abs().max())) for value in zeros]
            large = self._updated(buffers, images, scales, manner)
            half = self._updated(buffers, images, [scale / 2 for scale in scales], manner)
        averages = []
        for index, buffer in enumerate(buffers):
            keep = _weight(zeros[index], half[index], large[index], scales[index])
            if keep is None:
                continue
            if keep < 1:
                averages.append(RunningBuffer(buffer, keep))
            elif buffer not in self._sums:
                self._sums.append(buffer)
        return averages

    def _changed_by(self, images: Tensor) -> list[NamedTensor]:
        """Return the buffers in the vector that passes of the whole network in training mode change; all is put back."""
        network = self._network
        before = network.vector.clone()
        counters = {name: buffer.clone() for name, buffer in network.fixed_buffers.items()}
        network.module.train()
        with streams.seeded(0, network.vector.device), torch.enable_grad():  # some update only where gradients are computed
            for _ in range(_SEEN):
                network.module(images.clone())
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
    def _measuring(self, buffers: Sequence[NamedTensor], manner: _Manner) -> Iterator[None]:
        """Put the modules that update these buffers, and no others, in training mode; put all values back afterwards."""
        network = self._network
        before = network.vector.clone()
        counters = [counter.clone() for counter in self._counters]
        self._held, self._counts = before, counters
        network.module.eval()
        for module in _updating(network.module, buffers, manner.around):
            module.training = True  # train() would do the same to modules inside it
        try:
            with streams.generators_restored(network.vector.device):
                yield
        finally:
            network.module.eval()
            network.set_vector(before)
            for counter, value in zip(self._counters, counters, strict=True):
                counter.copy_(value)

    def _updated(
        self, buffers: Sequence[NamedTensor], images: Tensor, old: Sequence[float], manner: _Manner, draw: int = 0
    ) -> list[Tensor]:
        """Return what a pass makes of buffers whose elements all have an old value; all other buffers are held. float64."""
        network = self._network
        network.set_vector(self._held)
        for buffer, value in zip([*self._sums, *buffers], [*[0.0] * len(self._sums), *old], strict=True):
            buffer.tensor.fill_(value)
        for counter, count in zip(self._counters, self._counts, strict=True):
            counter.copy_(torch.zeros_like(count) if manner.from_zero else count)
        # Gradients are enabled for modules that update only then; they cost no more than the memory of one small batch.
        with streams.reseeded(draw, network.vector.device), torch.set_grad_enabled(manner.around):
            network.module(images.clone())
        return [buffer.current.detach().double() for buffer in buffers]


def _updating(root: nn.Module, buffers: Sequence[NamedTensor], around: bool) -> list[nn.Module]:
    """Return the modules that keep buffers, and if asked for all modules around them: one of those may update them."""
    owners = [buffer.owner for buffer in buffers]
    if not around:
        return owners
    return [module for module in root.modules() if any(inner in owners for inner in module.modules())]


def _weight(zero: Tensor, half: Tensor, large: Tensor, scale: float) -> float | None:
    """Return the weight of the old value in an update, given the new values for the old ones 0, scale / 2 and scale.

    1 if something is added to the old value. None if the buffer is no moving average: if its new value is not a line in the old
    one, with one slope for all elements.
    """
    slopes = (large - zero) / scale
    keep = float(slopes.median())
    size = max(1.0, float(zero.abs().max()))
    bent = float((half - (zero + large) / 2).abs().max()) / size
    share = 1 - keep
    if abs(share) < _LEAST_SHARE / 100 and bent < _TOLERANCE:
        return 1.0
    uneven = float((slopes - keep).abs().max())
    if not (bent < _TOLERANCE and uneven < min(_TOLERANCE, share / 100) and _LEAST_SHARE / 2 < share < 1 + _TOLERANCE):
        return None
    return max(0.0, keep)
