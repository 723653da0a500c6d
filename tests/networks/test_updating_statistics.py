"""Running statistics whose update involves other modules, counters, gradients or other statistics."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks.flat_network import FlatNetwork
from harness.networks.running_statistics import RunningStatistics

BATCHES = [torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(k)) * (k + 1) + k for k in range(3)]


class Statistics(nn.Module):
    """Has statistics that its parent updates."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))


class Parent(nn.Module):
    """Normalizes with the statistics of a child, then applies dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.kept = Statistics()
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.kept.mean, self.kept.var, training=self.training)
        return F.dropout(x, self.dropout, self.training)


class Grandparent(nn.Module):
    """Normalizes with the statistics of a grandchild."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Parent()

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.inner.kept.mean, self.inner.kept.var, training=self.training)


class WithGradients(nn.BatchNorm2d):
    """Updates its statistics only if gradients are enabled."""

    def forward(self, x: Tensor) -> Tensor:
        tracked = torch.is_grad_enabled() or not self.training
        mean, var = None, None
        if tracked:
            mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, training=self.training, momentum=self.momentum)


class Counted(nn.Module):
    """Derives its statistics' momentum, or whether they are updated at all, from a counter."""

    def __init__(self, dtype: torch.dtype, skipped: int = 0) -> None:
        super().__init__()
        self.skipped = skipped
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))
        self.register_buffer("passes", torch.full((), skipped, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        momentum = 0.0
        if self.training:
            self.passes += 1
            if self.passes > self.skipped:
                momentum = max(0.1, 1 / float(self.passes))
        return F.batch_norm(x, self.mean, self.var, training=self.training, momentum=momentum)


UPDATES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "by the parent": (Parent, "0.kept.mean", "0.kept.var"),
    "by the grandparent": (Grandparent, "0.inner.kept.mean", "0.inner.kept.var"),
    "by a parent with dropout": (lambda: Parent(0.5), "0.kept.mean", "0.kept.var"),
    "only with gradients": (lambda: WithGradients(3), "0.running_mean", "0.running_var"),
    "momentum from an integer counter": (lambda: Counted(torch.int64), "0.mean", "0.var"),
    "momentum from a float counter": (lambda: Counted(torch.float32), "0.mean", "0.var"),
    "only after some passes": (lambda: Counted(torch.int64, skipped=5), "0.mean", "0.var"),
}


def found(module: nn.Module) -> tuple[FlatNetwork, RunningStatistics]:
    flat = FlatNetwork(module.eval())
    return flat, RunningStatistics(flat, lambda: iter(BATCHES))


@pytest.mark.parametrize("name", UPDATES)
def test_recomputed_statistics_are_means_over_batches(name: str) -> None:
    """They equal the means, in float64, of the batches' means and variances; nothing else changes."""
    make, mean, variance = UPDATES[name]
    flat, statistics = found(nn.Sequential(make(), nn.Flatten(), nn.Linear(75, 2)))
    before = flat.state()
    statistics.recompute()
    state = flat.state()
    means = torch.stack([b.double().mean((0, 2, 3)) for b in BATCHES]).mean(0)
    variances = torch.stack([b.double().var((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(state.pop(mean).double(), means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state.pop(variance).double(), variances, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())
    assert not any(inner.training for inner in flat.module.modules())


class Renormalized(nn.Module):
    """Normalizes with its running mean also in training, so that later layers depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean((0, 2, 3)), 0.1)
        return x - self.mean.view(1, -1, 1, 1).tanh()


def test_statistics_that_depend_on_others_are_recomputed_after_them() -> None:
    """The second layer's mean is that of the first layer's outputs after the first mean was recomputed."""
    flat, statistics = found(nn.Sequential(Renormalized(), Renormalized(), nn.Flatten(), nn.Linear(75, 2)))
    statistics.recompute()
    state = flat.state()
    first = torch.stack([b.mean((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(state["0.mean"], first, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["1.mean"], first - first.tanh(), rtol=1e-4, atol=1e-5)
    assert statistics.unexplained == ()
