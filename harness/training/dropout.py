"""Dropout whose mask is a function of (order stream, epoch, step, number), as all our randomness is.

torch's own draws from a global generator: a step in a CUDA graph would have to carry its state, and siblings in one graph
would share it. These masks are integer arithmetic on a key, equal to the bit on every device, alone or in a group.
Knows nothing of networks but `nn.Dropout`; what else draws from the global generator (dropped paths, functional dropout) goes
on to do so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import streams


class Noise:
    """What the dropout layers of one network draw from within a step: a stream, and how many of its numbers are used up."""

    def __init__(self) -> None:
        self._counters = torch.arange(0)
        self.begin(0)

    def begin(self, key: int | Tensor) -> None:
        """Start a step: `key` is its stream's key, an int64 tensor () where a captured step is to read it."""
        self.key, self.used = key, 0

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Return the next `count` random numbers, int16 (count,), all values equally likely; four from each 64 bits."""
        words = -(-count // 4)
        # Kept, not made anew: a compiler would take a range for an index, and index arithmetic for free of overflow.
        if len(self._counters) < words or self._counters.device != device:
            self._counters = torch.arange(words, device=device)
        numbers = streams.bits(self.key, self._counters[:words] + self.used).view(torch.int16)
        self.used += words
        return numbers[:count]


class NamedDropout(nn.Dropout):
    """`nn.Dropout` that draws from a step's noise. A value is dropped with probability p to the next 1/65,536."""

    def __init__(self, p: float, noise: Noise) -> None:
        super().__init__(p)
        self.noise = noise
        self.dropped = round(p * 2**16)  # of 2**16 values

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Dropout's own name)
        if not self.training or self.dropped == 0:
            return input
        if self.dropped == 2**16:
            return input * 0.0
        kept = self.noise.draw(input.numel(), input.device).view(input.shape) >= self.dropped - 2**15
        return (input * kept) * (2**16 / (2**16 - self.dropped))


def name_dropout(module: nn.Module) -> Noise:
    """Replace every `nn.Dropout` within a network by one that draws from the noise that is returned."""
    noise = Noise()
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, NamedDropout(child.p, noise).train(child.training))
            elif isinstance(child, NamedDropout):
                child.noise = noise
    return noise
