"""Random numbers of a network's forward pass that are a function of (order stream, epoch, step, number).

torch's dropout draws from a global generator. A step in a CUDA graph would have to keep that generator's state, and siblings in
one graph would share it. These masks are integer arithmetic on a key, equal to the bit on every device, alone or in a group.
`nn.Dropout` is replaced here; all other draws of a network are in `harness.training.named_draws`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import streams


class Noise:
    """The random stream of one network's forward pass within a step, and how many 64-bit words of it are used.

    Between `end` and the next `begin`, drawing is an error.
    """

    def __init__(self) -> None:
        self._counters = torch.arange(0)
        self.begin(0)

    def begin(self, key: int | Tensor) -> None:
        """Start a step. `key` is the key of its stream: a number, or an int64 tensor () in a captured step."""
        self.key = key
        self.used = 0
        self.ended = False

    def end(self) -> None:
        """End the forward pass. A pass that is repeated, as with gradient checkpointing, would draw other numbers."""
        self.ended = True

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Return the next random numbers, int16 (count,), uniform over all values; each 64-bit word gives four."""
        return self.words(-(-count // 4), device).view(torch.int16)[:count]

    def words(self, count: int, device: torch.device) -> Tensor:
        """Return the next random numbers, int64 (count,), uniform over all values.

        Raise `RuntimeError` in the backward pass, and if a captured step draws on another device.
        """
        if self.ended:
            raise RuntimeError(
                "random numbers are drawn in the backward pass, where they would differ from those of the forward pass; "
                "disable gradient checkpointing of layers with dropout"
            )
        if isinstance(self.key, Tensor) and self.key.device != device:
            raise RuntimeError(
                f"random numbers are drawn on the device {device}; a graph of {self.key.device} cannot hold them"
            )
        # Stored, since a compiler would treat a new range as indices and assume that their arithmetic does not overflow.
        if len(self._counters) < count or self._counters.device != device:
            self._counters = torch.arange(count, device=device)
        numbers = streams.bits(self.key, self._counters[:count] + self.used)
        self.used += count
        return numbers


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
