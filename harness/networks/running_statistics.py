"""Running statistics of a network, BatchNorm's for example: find them, and recompute them from a fixed sample of images.

Interpolated running statistics are not those of the interpolated network, whose activations are different. Running statistics
are recognized by behavior, not by class: a floating-point buffer of any module that a forward pass in training mode updates by
a moving average, new = a · old + (1 − a) · statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import streams
from harness.networks.flat_network import FlatNetwork, NamedTensor

_LARGE = 1024.0  # an old value, relative to which a batch's own statistic is small
_TOLERANCE = 1e-3  # of a moving average's linearity, in units of its statistic; rounding errors are 1e-4 of it
_LEAST_SHARE = 1e-4  # the smallest weight of a batch in an update; its rounding error is 1e-7
_CHANGE_PASSES = 2  # a buffer that these passes do not change counts as constant


@dataclass(frozen=True)
class RunningBuffer:
    """A buffer that keeps a moving average. `keep` is the weight of its old value in an update, in [0, 1)."""

    buffer: NamedTensor
    keep: float


@dataclass(frozen=True)
class _PassMode:
    """How a pass that updates buffers is run.

    `with_ancestors`: the modules that contain the buffers' owners are in training mode too, and gradients are enabled.
    `reset_counters`: counters start at 0.
    """

    with_ancestors: bool
    reset_counters: bool


_PASS_MODES = (
    _PassMode(with_ancestors=False, reset_counters=True),
    _PassMode(with_ancestors=False, reset_counters=False),
    _PassMode(with_ancestors=True, reset_counters=True),
    _PassMode(with_ancestors=True, reset_counters=False),
)


@dataclass(frozen=True)
class _Stage:
    """Moving averages that are recomputed together.

    Their statistics may depend on those of earlier stages, which stay constant, with their modules in evaluation mode.
    """

    averages: tuple[RunningBuffer, ...]
    mode: _PassMode

    @property
    def buffers(self) -> list[NamedTensor]:
        return [average.buffer for average in self.averages]


class RunningStatistics:
    """Finds the running statistics of a network, and recomputes them for the network's current weights.

    `batches` yields the normalized images of the sample, float32 (batch, channels, height, width). `unexplained` names the
    buffers that a training-mode pass changes, but not as a moving average; these are not recomputed.
    """

    def __init__(self, network: FlatNetwork, batches: Callable[[], Iterator[Tensor]]) -> None:
        self._network = network
        self._batches = batches
        self.unexplained: tuple[str, ...] = ()
        self._stages: list[_Stage] = []
        self._averages: list[RunningBuffer] = []
        self._counters: list[Tensor] = []
        self._vector_counters: list[NamedTensor] = []  # counters among the buffers in the vector
        if network.buffers:
            self._find(next(batches()))

    @property
    def averages(self) -> tuple[RunningBuffer, ...]:
        """The buffers that are recomputed."""
        return tuple(self._averages)

    def recompute(self) -> None:
        """Set every statistic to its mean over the batches.

        Only the modules that update statistics are in training mode, so that dropout elsewhere does not change them. Each batch
        is normalized by its own statistics, as in training.
        """
        for stage in self._stages:
            self._recompute_stage(stage)

    def _recompute_stage(self, stage: _Stage) -> None:
        sums = [torch.zeros_like(buffer.tensor, dtype=torch.float64) for buffer in stage.buffers]
        zeros = [0.0] * len(sums)
        count = 0
        with self._updating(stage.buffers, stage.mode):
            for images in self._batches():
                updated = self._updated(stage.buffers, images, zeros, stage.mode, draw=count)
                for total, value in zip(sums, updated, strict=True):
                    total += value
                count += 1
        for average, total in zip(stage.averages, sums, strict=True):
            average.buffer.tensor.copy_(total / (count * (1 - average.keep)))

    def _find(self, images: Tensor) -> None:
        """Find the buffers that a training-mode pass changes, and the weight of each one's moving average.

        A statistic that depends on other statistics (batch renormalization) is linear in its old value only if those are
        constant. It then belongs to a later stage.
        """
        remaining = self._changed_by(images)
        while remaining:
            stage = self._next_stage(remaining, images)
            if stage is None:
                break
            self._stages.append(stage)
            self._averages += stage.averages
            remaining = _without(remaining, stage.buffers)
        self.unexplained = tuple(buffer.name for buffer in remaining)

    def _next_stage(self, buffers: Sequence[NamedTensor], images: Tensor) -> _Stage | None:
        """Return the moving averages among buffers, in the first pass mode that reveals any."""
        for mode in _PASS_MODES:
            averages = self._averages_among(buffers, images, mode)
            if not averages and self._vector_counters:  # a counter may determine the weight, so it must be constant
                averages = self._averages_among(_without(buffers, self._vector_counters), images, mode)
            if averages:
                return _Stage(tuple(averages), mode)
        return None

    def _averages_among(self, buffers: Sequence[NamedTensor], images: Tensor, mode: _PassMode) -> list[RunningBuffer]:
        """Return the buffers that are moving averages; record those that add to their old value as counters."""
        with self._updating(buffers, mode):
            zeros = self._updated(buffers, images, [0.0] * len(buffers), mode)
            scales = [_LARGE * max(1.0, float(value.abs().max())) for value in zeros]
            large = self._updated(buffers, images, scales, mode)
            half = self._updated(buffers, images, [scale / 2 for scale in scales], mode)
        averages = []
        for index, buffer in enumerate(buffers):
            keep = _weight(zeros[index], half[index], large[index], scales[index])
            if keep is None:
                continue
            if keep < 1:
                averages.append(RunningBuffer(buffer, keep))
            elif buffer not in self._vector_counters:
                self._vector_counters.append(buffer)
        return averages

    def _changed_by(self, images: Tensor) -> list[NamedTensor]:
        """Return the buffers in the vector that training-mode passes of the whole network change; restore all values."""
        network = self._network
        before = network.vector.clone()
        counters = {name: buffer.clone() for name, buffer in network.fixed_buffers.items()}
        network.module.train()
        with streams.seeded(0, network.vector.device), torch.enable_grad():  # some modules update only if gradients are enabled
            for _ in range(_CHANGE_PASSES):
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
    def _updating(self, buffers: Sequence[NamedTensor], mode: _PassMode) -> Iterator[None]:
        """Put only the modules that update these buffers in training mode within the block; restore all values after it."""
        network = self._network
        self._vector_before = network.vector.clone()
        self._counters_before = [counter.clone() for counter in self._counters]
        network.module.eval()
        for module in _updating_modules(network.module, buffers, mode.with_ancestors):
            module.training = True  # train() would change the modules inside it too
        try:
            with streams.generators_restored(network.vector.device):
                yield
        finally:
            network.module.eval()
            network.set_vector(self._vector_before)
            for counter, value in zip(self._counters, self._counters_before, strict=True):
                counter.copy_(value)

    def _updated(
        self, buffers: Sequence[NamedTensor], images: Tensor, old: Sequence[float], mode: _PassMode, draw: int = 0
    ) -> list[Tensor]:
        """Return the buffers, float64, after a pass before which every element of buffer i is old[i].

        Counters in the vector are 0 before the pass; all other values are as before the block of `_updating`. `draw` seeds the
        global generators.
        """
        network = self._network
        network.set_vector(self._vector_before)
        for counter in self._vector_counters:
            counter.tensor.fill_(0.0)
        for buffer, value in zip(buffers, old, strict=True):
            buffer.tensor.fill_(value)
        for fixed_counter, count in zip(self._counters, self._counters_before, strict=True):
            fixed_counter.copy_(count)
            if mode.reset_counters:
                fixed_counter.zero_()
        # Gradients are enabled for modules that update only then; the memory is that of one small batch.
        with streams.reseeded(draw, network.vector.device), torch.set_grad_enabled(mode.with_ancestors):
            network.module(images.clone())
        return [buffer.current.detach().double() for buffer in buffers]


def _without(buffers: Sequence[NamedTensor], excluded: Sequence[NamedTensor]) -> list[NamedTensor]:
    names = {buffer.name for buffer in excluded}
    return [buffer for buffer in buffers if buffer.name not in names]


def _updating_modules(root: nn.Module, buffers: Sequence[NamedTensor], with_ancestors: bool) -> list[nn.Module]:
    """Return the modules that own buffers; with their ancestors, one of which may update the buffers, if asked for."""
    owners = [buffer.owner for buffer in buffers]
    if not with_ancestors:
        return owners
    modules = []
    for module in root.modules():
        if any(inner in owners for inner in module.modules()):
            modules.append(module)
    return modules


def _weight(zero: Tensor, half: Tensor, large: Tensor, scale: float) -> float | None:
    """Return the weight of the old value in an update, given the new values for the old values 0, scale / 2 and scale.

    It is 1 if the update adds to the old value. It is None if the buffer is no moving average: if its new value is not linear
    in the old one, with the same slope for all elements.
    """
    slopes = (large - zero) / scale
    keep = float(slopes.median())
    size = max(1.0, float(zero.abs().max()))
    nonlinearity = float((half - (zero + large) / 2).abs().max()) / size
    is_linear = nonlinearity < _TOLERANCE
    share = 1 - keep
    if abs(share) < _LEAST_SHARE / 100 and is_linear:
        return 1.0
    slope_range = float((slopes - keep).abs().max())
    has_one_slope = slope_range < min(_TOLERANCE, share / 100)
    is_share = _LEAST_SHARE / 2 < share < 1 + _TOLERANCE
    if not (is_linear and has_one_slope and is_share):
        return None
    return max(0.0, keep)
