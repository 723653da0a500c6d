"""Running statistics: which buffers are found, and their values against means in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks.flat_network import FlatNetwork
from harness.networks.running_statistics import RunningStatistics

BATCHES = [torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(k)) * (k + 1) + k for k in range(3)]


class OwnNorm(nn.Module):
    """A hand-written normalization with running statistics; with `replace`, each update makes new tensors."""

    def __init__(self, channels: int, momentum: float = 0.1, replace: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        self.replace = replace
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        center, spread = self.center, self.spread
        if self.training:
            center, spread = x.mean((0, 2, 3)), x.var((0, 2, 3))
            with torch.no_grad():
                self._update(center, spread)
        return (x - center.view(1, -1, 1, 1)) / (spread.view(1, -1, 1, 1) + 1e-5).sqrt()

    def _update(self, center: Tensor, spread: Tensor) -> None:
        if self.replace:
            self.center = (1 - self.momentum) * self.center + self.momentum * center
            self.spread = (1 - self.momentum) * self.spread + self.momentum * spread
        else:
            self.center.lerp_(center, self.momentum)
            self.spread.lerp_(spread, self.momentum)


def network(norm: nn.Module) -> nn.Module:
    """Return a network in which only the normalization depends on the mode."""
    return nn.Sequential(norm, nn.Flatten(), nn.Linear(75, 2))


def found(module: nn.Module, batches: list[Tensor] = BATCHES) -> tuple[FlatNetwork, RunningStatistics]:
    flat = FlatNetwork(module.eval())
    return flat, RunningStatistics(flat, lambda: iter(batches))


NORMS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), "running_mean", "running_var"),
    "BatchNorm2d, momentum 0.01": (lambda: nn.BatchNorm2d(3, momentum=0.01), "running_mean", "running_var"),
    "BatchNorm2d, cumulative": (lambda: nn.BatchNorm2d(3, momentum=None), "running_mean", "running_var"),
    "a hand-written class": (lambda: OwnNorm(3), "center", "spread"),
    "a class that replaces its buffers": (lambda: OwnNorm(3, 0.3, replace=True), "center", "spread"),
}


@pytest.mark.parametrize("name", NORMS)
def test_recomputed_statistics_are_means_over_batches(name: str) -> None:
    """They equal the means, in float64, of the batches' means and variances; nothing else changes."""
    make, mean, variance = NORMS[name]
    module = network(make())
    getattr(module[0], mean).fill_(99.0)
    for buffer in module[0].buffers():
        if not buffer.is_floating_point():
            buffer.fill_(7)
    flat, statistics = found(module)
    before = flat.state()
    statistics.recompute()
    state = flat.state()
    means = torch.stack([b.double().mean((0, 2, 3)) for b in BATCHES]).mean(0)
    variances = torch.stack([b.double().var((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(state.pop(f"0.{mean}").double(), means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state.pop(f"0.{variance}").double(), variances, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    assert not any(inner.training for inner in module.modules())
    assert not flat.buffers_replaced
    assert statistics.unexplained == ()


def test_small_momentum_is_a_moving_average() -> None:
    """A momentum of 0.0005 (0.9995 in other libraries' convention) is found, to the precision of float32."""
    flat, statistics = found(network(nn.BatchNorm2d(3, momentum=0.0005)))
    statistics.recompute()
    variances = torch.stack([b.var((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["0.running_var"], variances, rtol=1e-3, atol=0)


def test_instance_norm_with_running_statistics() -> None:
    """Its statistics are found, although it is no BatchNorm."""
    flat, statistics = found(network(nn.InstanceNorm2d(3, track_running_stats=True)))
    statistics.recompute()
    means = torch.stack([b.mean((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["0.running_mean"], means, rtol=1e-5, atol=1e-5)


def test_statistics_of_a_constant_channel_are_exact() -> None:
    """A channel without variance gets variance 0, not a rounding error of the old value."""
    module = network(nn.BatchNorm2d(3))
    module[0].running_var.fill_(1e4)
    flat, statistics = found(module, [torch.zeros(16, 3, 5, 5)])
    statistics.recompute()
    assert torch.equal(flat.state()["0.running_var"], torch.zeros(3))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 3, 1)], ids=lambda norm: str(norm)
)
def test_network_without_running_statistics(norm: nn.Module) -> None:
    """No buffer is found."""
    _, statistics = found(network(norm))
    assert (statistics.averages, statistics.unexplained) == ((), ())


def test_constant_buffers_are_not_recomputed() -> None:
    """A buffer that training does not change (a frozen BatchNorm, a table) is interpolated like a weight."""
    frozen = nn.BatchNorm2d(3)
    frozen.train = lambda mode=True: frozen  # a frozen layer: never in training mode
    frozen.training = False
    _, statistics = found(network(frozen))
    assert statistics.averages == ()


class PowerIteration(nn.Module):
    """Changes a buffer in training, but not as a moving average: like spectral normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(75, 75, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("u", F.normalize(torch.ones(75), dim=0))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.u.copy_(F.normalize(self.weight @ self.u, dim=0).detach())
            self.steps += 1
        return x.flatten(1) @ self.weight / (self.u @ self.weight @ self.u)


def test_buffers_that_are_no_moving_averages() -> None:
    """Power iteration and a counter cannot be recomputed from images: they are named and not changed."""
    flat, statistics = found(nn.Sequential(PowerIteration(), nn.Linear(75, 2)))
    before = flat.vector.clone()
    statistics.recompute()
    assert statistics.averages == ()
    assert statistics.unexplained == ("0.u", "0.steps")
    assert torch.equal(flat.vector, before)


def test_statistics_after_dropout() -> None:
    """Only the modules with statistics are in training mode, so dropout before them is off."""
    flat, statistics = found(nn.Sequential(nn.Dropout(0.9), *network(nn.BatchNorm2d(3))))
    statistics.recompute()
    means = torch.stack([b.mean((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["1.running_mean"], means, rtol=1e-5, atol=1e-5)
