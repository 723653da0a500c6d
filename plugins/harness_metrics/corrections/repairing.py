"""REPAIR: measure the members' channels, measure the mixture's, and correct the mixture by a scale and a shift per channel.

For channel c at a site, with mean μ and standard deviation σ over images and positions of the sample,

    y ← (y − μ_mix) σ_goal / σ_mix + μ_goal,    μ_goal = Σ_i λ_i μ_i,    σ_goal = Σ_i λ_i σ_i

Standard deviations are averaged, not variances. The mixture is measured in one pass in which every site is already corrected by
the statistics of its batch, as a BatchNorm with that goal would do it, so that later layers see corrected inputs.
Source: Jordan et al. 2023, section 4, and their code (`Train-Merge-REPAIR-VGG11.ipynb`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness import CorrectionContext, Removable, TaskFailed
from harness_metrics.corrections.calls import Call, ForwardObserver
from harness_metrics.corrections.sites import Site, find_sites

_PROBE_IMAGES = 2
_CONSTANT = 1e-6  # deviation of a channel, relative to its size, that is rounding: such a channel is not scaled


@dataclass(frozen=True)
class Channels:
    """Mean and standard deviation of the channels at a site, float64 (channels,), or (members, channels) for all members."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Members:
    """The sites of a network, and the members' channels at each."""

    sites: tuple[Site, ...]
    channels: tuple[Channels, ...]


@dataclass(frozen=True)
class Goal:
    """The channels that a site should have, and which of their statistics are corrected."""

    channels: Channels
    mean: bool
    deviation: bool

    def affine(self, found: Channels) -> tuple[Tensor, Tensor]:
        """Return the scale and the shift per channel, float64 (channels,), that give found channels their goal."""
        scale = torch.ones_like(found.mean)
        if self.deviation:
            size = found.mean.abs() + self.channels.deviation
            varies = found.deviation > _CONSTANT * size
            scale = torch.where(varies, self.channels.deviation / found.deviation, scale)
        target = self.channels.mean if self.mean else found.mean
        return scale, target - scale * found.mean


class _Sum:
    """Sums up the statistics of equally large batches."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | float = 0.0
        self._square: Tensor | float = 0.0

    def add(self, batch: Channels) -> None:
        """Add the channels of a batch."""
        self._count += 1
        self._mean = self._mean + batch.mean
        self._square = self._square + batch.deviation.square() + batch.mean.square()

    def channels(self) -> Channels:
        """Return the channels over all batches."""
        mean = torch.as_tensor(self._mean / self._count)
        variance = torch.as_tensor(self._square / self._count) - mean.square()
        return Channels(mean, variance.clamp(min=0).sqrt())


def measure_members(context: CorrectionContext, before_normalization: bool) -> Members:
    """Return a network's sites, and the channels of every member at each. The network gets the members' weights.

    Raise `TaskFailed` if a member's activations are not finite.
    """
    context.set_member(0)
    sites = find_sites(context.network, next(iter(context.batches()))[:_PROBE_IMAGES], before_normalization)
    of_members = []
    for member in range(context.members):
        context.set_member(member)
        of_members.append(measure(context, sites))
        _require_finite(of_members[-1], member)
    channels = []
    for at_site in zip(*of_members, strict=True):
        means = torch.stack([one.mean for one in at_site])
        channels.append(Channels(means, torch.stack([one.deviation for one in at_site])))
    return Members(tuple(sites), tuple(channels))


def _require_finite(channels: Sequence[Channels], member: int) -> None:
    """Raise `TaskFailed` if activations of a member are not finite: mixtures would get goals that are not numbers."""
    for one in channels:
        if not bool((one.mean.isfinite() & one.deviation.isfinite()).all()):
            raise TaskFailed(f"activations of member {member} are not finite on training images; has it diverged?")


def measure(context: CorrectionContext, sites: Sequence[Site], goals: Sequence[Goal] = ()) -> list[Channels]:
    """Return the channels at each site over the sample; with goals, each site is corrected by the statistics of its batch."""
    by_call = {site.call: index for index, site in enumerate(sites)}
    sums = [_Sum() for _ in sites]

    def observe(call: Call) -> Tensor:
        index = by_call.get(call.number)
        if index is None:
            return call.output
        found = _channels(call.output, sites[index].axis)
        sums[index].add(found)
        if not goals:
            return call.output
        return _applied(call.output, sites[index].axis, *goals[index].affine(found))

    if not sites:
        return []
    with ForwardObserver(context.network, observe):
        for images in context.batches():
            context.network(images.clone())
    return [one.channels() for one in sums]


def repair(context: CorrectionContext, point: np.ndarray, members: Members, *, mean: bool, deviation: bool) -> list[Removable]:
    """Correct the network at Σ_i point[i] θ_i, and return the hooks that this needs."""
    goals = []
    for channels in members.channels:
        weights = torch.tensor(point, dtype=torch.float64, device=channels.mean.device)
        target = Channels(weights @ channels.mean, (weights @ channels.deviation).clamp(min=0))
        goals.append(Goal(target, mean, deviation))
    if context.running_statistics:
        _recompute(context, members.sites, goals)
    found = measure(context, members.sites, goals)
    affines = [goal.affine(channels) for goal, channels in zip(goals, found, strict=True)]
    return apply(context.network, members.sites, affines)


def _recompute(context: CorrectionContext, sites: Sequence[Site], goals: Sequence[Goal]) -> None:
    """Recompute running statistics while the sites are corrected by the statistics of their batch."""
    by_call = {site.call: (site, goal) for site, goal in zip(sites, goals, strict=True)}

    def observe(call: Call) -> Tensor:
        if call.number not in by_call:
            return call.output
        site, goal = by_call[call.number]
        return _applied(call.output, site.axis, *goal.affine(_channels(call.output, site.axis)))

    if not sites:
        context.recompute_statistics()
        return
    with ForwardObserver(context.network, observe):
        context.recompute_statistics()


def apply(
    network: nn.Module, sites: Sequence[Site], affines: Sequence[tuple[Tensor, Tensor]], *, fold: bool = True
) -> list[Removable]:
    """Scale and shift the output at each site: in its parameters where they allow it, else by a hook, which is returned.

    Without `fold`, all sites get hooks.
    """
    hooked: dict[int, tuple[int, Tensor, Tensor]] = {}
    for site, (scale, shift) in zip(sites, affines, strict=True):
        if fold and site.weight:
            _fold(network, site, scale, shift)
        else:
            hooked[site.call] = site.axis, scale, shift
    if not hooked:
        return []
    return [ForwardObserver(network, _Affines(hooked))]


class _Affines:
    """Scales and shifts the outputs of calls by number."""

    def __init__(self, by_call: Mapping[int, tuple[int, Tensor, Tensor]]) -> None:
        self._by_call = by_call

    def __call__(self, call: Call) -> Tensor:
        if call.number not in self._by_call:
            return call.output
        return _applied(call.output, *self._by_call[call.number])


def _fold(network: nn.Module, site: Site, scale: Tensor, shift: Tensor) -> None:
    weight = network.get_parameter(site.weight)
    bias = network.get_parameter(site.bias)
    weight.mul_(_broadcast(scale, 0, weight))
    bias.mul_(_broadcast(scale, 0, bias)).add_(_broadcast(shift, 0, bias))


def _channels(values: Tensor, axis: int) -> Channels:
    """Return the channels of a batch. Statistics are taken over all other axes."""
    others = [dim for dim in range(values.dim()) if dim != axis % values.dim()]
    variance, mean = torch.var_mean(values, dim=others, correction=0)
    return Channels(mean.double(), variance.double().sqrt())


def _applied(values: Tensor, axis: int, scale: Tensor, shift: Tensor) -> Tensor:
    return values * _broadcast(scale, axis, values) + _broadcast(shift, axis, values)


def _broadcast(channels: Tensor, axis: int, values: Tensor) -> Tensor:
    """Return values per channel (channels,) in the dtype of `values`, with their channels at `axis` of its axes."""
    shape = [1] * values.dim()
    shape[axis] = -1
    return channels.to(values.dtype).view(shape)
