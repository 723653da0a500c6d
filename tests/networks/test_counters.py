"""Counters in plain attributes: found if the network depends on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.networks.counters import effective_counter

IMAGES = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Counts(nn.Module):
    """Counts its training passes; `effect` computes the output from the network and the linear layer's output."""

    def __init__(self, effect: Callable[[Counts, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.effect = effect
        self.inner = nn.Identity()
        self.inner.passes = 0
        self.width = None
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.inner.passes += 1
        if self.width is None:
            self.width = x.shape[1]
        return self.effect(self, self.layer(x)) * (self.width / 3)


def found(effect: Callable[[Counts, Tensor], Tensor]) -> str:
    module = Counts(effect)

    def behavior() -> list[Tensor]:
        module.mean.zero_()
        with torch.no_grad():
            logits = module.train()(IMAGES)
            return [logits, module.mean.clone(), module.eval()(IMAGES)]

    return effective_counter(module, behavior)


def warm_statistics(net: Counts, x: Tensor) -> Tensor:
    if net.training:
        net.mean.lerp_(x.mean(0), max(0.1, 1 / net.inner.passes))
    return x


def warm_up(net: Counts, x: Tensor) -> Tensor:
    if net.training and net.inner.passes >= 50:
        return 2 * x
    return x


def first_pass(net: Counts, x: Tensor) -> Tensor:
    if net.training and net.inner.passes == 1:
        return 2 * x
    return x


EFFECTS: dict[str, Callable[[Counts, Tensor], Tensor]] = {
    "a warm-up in training": warm_up,
    "a change of the function": lambda net, x: x * (1 + net.inner.passes // 1000),
    "the momentum of statistics": warm_statistics,
    "the first pass alone": first_pass,
}


@pytest.mark.parametrize("name", EFFECTS)
def test_counter_with_an_effect_is_named(name: str) -> None:
    """It is found if logits in training, logits in evaluation or buffers depend on it, now or after many steps."""
    assert found(EFFECTS[name]) == "inner.passes"


def test_counter_without_an_effect_is_ignored() -> None:
    """A counter without an effect, and a size that the first pass records, are no reason to refuse a network."""
    assert found(lambda net, x: x) == ""
