"""Running statistics: which buffers keep them, the sample they are recomputed from, and the values by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.networks.flat_network import FlatNetwork
from harness.networks.running_statistics import BATCH_SIZE, SAMPLE_SIZE, RunningStatistics, sample_batches

BATCHES = [torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(k)) * (k + 1) + k for k in range(3)]


class OwnNorm(nn.Module):
    """A normalization layer of one's own with running statistics; `replace`: in new tensors at every update."""

    def __init__(self, channels: int, momentum: float = 0.1, replace: bool = False) -> None:
        super().__init__()
        self.momentum, self.replace = momentum, replace
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
    """A network in which nothing but the norm depends on the mode."""
    return nn.Sequential(norm, nn.Flatten(), nn.Linear(75, 2))


def found(module: nn.Module, batches: list[Tensor] = BATCHES) -> tuple[FlatNetwork, RunningStatistics]:
    flat = FlatNetwork(module.eval())
    return flat, RunningStatistics(flat, lambda: iter(batches))


NORMS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), "running_mean", "running_var"),
    "BatchNorm2d, momentum 0.01": (lambda: nn.BatchNorm2d(3, momentum=0.01), "running_mean", "running_var"),
    "BatchNorm2d, cumulative": (lambda: nn.BatchNorm2d(3, momentum=None), "running_mean", "running_var"),
    "a class of one's own": (lambda: OwnNorm(3), "center", "spread"),
    "one that replaces its buffers": (lambda: OwnNorm(3, 0.3, replace=True), "center", "spread"),
}


@pytest.mark.parametrize("name", NORMS)
def test_recomputed_statistics_are_the_average_over_batches(name: str) -> None:
    """Mean and variance equal the plain averages of the batches' own, by hand in float64; nothing else changes."""
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
    """A momentum of 0.0005 (0.9995 in other libraries' words) is found, to what float32 tells of it."""
    flat, statistics = found(network(nn.BatchNorm2d(3, momentum=0.0005)))
    statistics.recompute()
    variances = torch.stack([b.var((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["0.running_var"], variances, rtol=1e-3, atol=0)


def test_instance_norm_that_tracks_statistics_is_found() -> None:
    """It is no BatchNorm by class, and keeps running statistics all the same."""
    flat, statistics = found(network(nn.InstanceNorm2d(3, track_running_stats=True)))
    statistics.recompute()
    means = torch.stack([b.mean((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["0.running_mean"], means, rtol=1e-5, atol=1e-5)


def test_statistics_of_a_constant_channel_are_exact() -> None:
    """A channel without variance gets variance 0, not what rounding leaves of the old value."""
    module = network(nn.BatchNorm2d(3))
    module[0].running_var.fill_(1e4)
    flat, statistics = found(module, [torch.zeros(16, 3, 5, 5)])
    statistics.recompute()
    assert torch.equal(flat.state()["0.running_var"], torch.zeros(3))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 3, 1)], ids=lambda norm: str(norm)
)
def test_network_without_running_statistics_has_none(norm: nn.Module) -> None:
    """There is nothing to recompute, and no pass is made."""
    _, statistics = found(network(norm))
    assert (statistics.averages, statistics.unexplained) == ((), ())


def test_constant_buffers_are_no_statistics() -> None:
    """A buffer that training leaves alone (a frozen BatchNorm, a table) is interpolated like a weight."""
    frozen = nn.BatchNorm2d(3)
    frozen.train = lambda mode=True: frozen  # a frozen layer: never in training mode
    frozen.training = False
    _, statistics = found(network(frozen))
    assert statistics.averages == ()


class PowerIteration(nn.Module):
    """Changes a buffer in training in another way than by a moving average, as spectral normalization does."""

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


def test_what_is_no_moving_average_is_named_and_left_alone() -> None:
    """Power iteration and a counter cannot be recomputed from images: they are said, and stay as they are."""
    flat, statistics = found(nn.Sequential(PowerIteration(), nn.Linear(75, 2)))
    before = flat.vector.clone()
    statistics.recompute()
    assert statistics.averages == ()
    assert statistics.unexplained == ("0.u", "0.steps")
    assert torch.equal(flat.vector, before)


def test_statistics_beside_dropout_are_not_blurred() -> None:
    """Only the modules with statistics are in training mode: dropout before them stays off."""
    flat, statistics = found(nn.Sequential(nn.Dropout(0.9), *network(nn.BatchNorm2d(3))))
    statistics.recompute()
    means = torch.stack([b.mean((0, 2, 3)) for b in BATCHES]).mean(0)
    torch.testing.assert_close(flat.state()["1.running_mean"], means, rtol=1e-5, atol=1e-5)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 1, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def chosen(pictures: Tensor) -> list[bytes]:
    """Return the sample's images in its order, as bytes."""
    return [bytes(pictures[i].flatten().tolist()) for i in sample_batches(pictures).flatten().tolist()]


def test_sample_does_not_depend_on_the_order_of_the_images() -> None:
    """The same images are chosen, in the same order, however the data set is sorted; copies of an image count apart."""
    pictures = torch.cat([images(700)] * 4)
    shuffled = pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(1))]
    by_content = sorted(pictures, key=lambda image: image.flatten().tolist())
    assert chosen(pictures) == chosen(shuffled) == chosen(torch.stack(by_content))


def test_sample_of_repeated_images_is_spread_over_them() -> None:
    """With 15 copies of each of 400 images a sample holds nearly all of them, and not a few 15 times."""
    sample = chosen(torch.cat([images(400)] * 15))
    assert len(set(sample)) > 390


def test_sample_is_random() -> None:
    """Its images' mean brightness is that of the data set, also where the file is sorted by brightness."""
    pictures = torch.arange(10_000).view(-1, 1, 1, 1).mul(255).div(9_999).to(torch.uint8).expand(-1, 1, 5, 5)
    sample = pictures[sample_batches(pictures).flatten()].double()
    assert abs(float(sample.mean()) - 127.5) < 5


@pytest.mark.parametrize("n", [1, 2, 3, 126, 127, 128, 129, 130, 257, 1437, 2047, 2048, 2049, 5000])
def test_batches_are_equal_and_never_single(n: int) -> None:
    """Whatever the number of images: equal batches, none larger than the limit, nearly all of the sample used."""
    batches = sample_batches(images(n))
    count, size = batches.shape
    assert size <= BATCH_SIZE
    assert size > 1 or n == 1
    assert count * size > min(n, SAMPLE_SIZE) - count
    assert len(batches.flatten().unique()) == count * size


def test_images_of_odd_sizes_are_hashed_whole() -> None:
    """Images that differ in their last byte alone are different images."""
    one, other = torch.zeros(3, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, 1, 3, 3, dtype=torch.uint8)
    other[1, 0, 2, 2] = 1
    one[0, 0, 2, 2] = 1
    assert chosen(one) == chosen(other)
