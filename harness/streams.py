"""Named random streams: every random number is a pure function of a stream's name and a counter.

A stream's name (purpose, seed, member, …) is hashed to a 64-bit key. The i-th number of the stream is the i-th output of
SplitMix64 started at that key (Steele, Lea and Flood 2014; number 0 mixes the key itself). Each number is computed directly
from its counter, so numbers are equal to the bit in any order, in any grouping, on any device. Keys, numbers and permutations
do not read a global generator.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

Part = str | int
Name = tuple[Part, ...]

_GENERATORS = threading.RLock()  # torch's global generators belong to all threads of the process

# SplitMix64's increment and multipliers (Steele, Lea and Flood 2014, fig. 16).
_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def signed(value: int) -> int:
    """Reinterpret an unsigned 64-bit integer as a signed one (two's complement), which is what torch computes with."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def key(*name: Part) -> int:
    """Return the stream's 64-bit key: the first eight bytes of sha256 over the canonical JSON of its name."""
    digest = hashlib.sha256(json.dumps(name, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def bits(stream: int | torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Return 64 random bits per counter.

    `counters` are int64 of any shape. `stream` is a key, or an int64 tensor of keys that broadcasts against the counters. The
    result is int64 of the broadcast shape, on the counters' device. All arithmetic is on integers: equal on every device.
    """
    z = counters * signed(_GOLDEN) + (signed(stream) if isinstance(stream, int) else stream)
    z = (z ^ _shift_right(z, 30)) * signed(_MIX1)
    z = (z ^ _shift_right(z, 27)) * signed(_MIX2)
    return z ^ _shift_right(z, 31)


def uniform(stream: int | torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Return float32 numbers in [0, 1) in the shape of `bits`: the top 24 bits per counter, divided by 2²⁴."""
    import torch

    return _shift_right(bits(stream, counters), 40).to(torch.float32) * 2.0**-24


def permutation(stream: int, n: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Return a random permutation of `range(n)`, int64 (n,): the stable argsort of the stream's first n numbers."""
    import torch

    return torch.argsort(bits(stream, torch.arange(n, device=device)), stable=True)


@contextmanager
def seeded(stream: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Seed torch's global generators from the stream within the block, and restore them afterwards.

    This is for code that draws from a global generator: a network's initializers and dropout, a plugin's own draws.
    """
    import torch

    device = torch.device(device)
    cuda_devices = []
    if device.type == "cuda":
        cuda_devices.append(device)
    with _GENERATORS, torch.random.fork_rng(devices=cuda_devices):
        torch.manual_seed(stream & 0x7FFFFFFFFFFFFFFF)
        yield


@contextmanager
def reseeded(stream: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators from the stream within the block; a `generators_restored` around it restores them.

    `torch.manual_seed` does the same, but if CUDA is not initialized it records a stack trace, which takes a millisecond: as
    long as a small training step.
    """
    import torch

    with _GENERATORS:
        torch.default_generator.manual_seed(stream)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(stream)
        yield


@contextmanager
def generators_restored(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators after the block. Other threads may use them during the block."""
    import torch

    with _GENERATORS:
        host_state = torch.get_rng_state()
        device_state = None
        if device.type == "cuda":
            device_state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        with _GENERATORS:
            torch.set_rng_state(host_state)
            if device_state is not None:
                torch.cuda.set_rng_state(device_state, device)


def _shift_right(z: torch.Tensor, n: int) -> torch.Tensor:
    """Shift to the right and fill with zeros; torch's `>>` copies the sign bit."""
    return (z >> n) & ((1 << (64 - n)) - 1)
