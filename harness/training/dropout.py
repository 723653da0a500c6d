"""Dropout whose mask is a function of (order stream, epoch, step, number), as all randomness of a training is.

torch's dropout draws from a global generator. A step in a CUDA graph would have to keep that generator's state, and siblings in
one graph would share it. These masks are integer arithmetic on a key, equal to the bit on every device, alone or in a group.
Only `nn.Dropout` is replaced; drop paths and functional dropout still draw from the global generator.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import streams


class Noise:
    """The random stream of one network's dropout layers within a step, and how many 64-bit words of it are used."""

    def __init__(self) -> None:
        self._counters = torch.arange(0)
        self.begin(0)

    def begin(self, key: int | Tensor) -> None:
        """Start a step. `key` is the key of its stream: a number, or an int64 tensor () in a captured step."""
        self.key = key
        self.used = 0

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Return the next random numbers, int16 (count,), uniform over all values; each 64-bit word gives four."""
        words = -(-count // 4)
        # Stored, since a compiler would treat a new range as indices and assume that their arithmetic does not overflow.
        if len(self._counters) < words or self._counters.device != device:
            self._counters = torch.arange(words, device=device)
        numbers = streams.bits(self.key, self._counters[:words] + self.used).view(torch.int16)
        self.used += words
        return numbers[:count]


class NamedDropout(nn.Dropout):
    """`nn.Dropout` that draws from a `Noise`. The probability p is rounded to a multiple of 1/65,536."""

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
    """Replace every `nn.Dropout` in a network by a `NamedDropout`; return the noise from which these draw."""
    noise = Noise()
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, NamedDropout(child.p, noise).train(child.training))
            elif isinstance(child, NamedDropout):
                child.noise = noise
    return noise
