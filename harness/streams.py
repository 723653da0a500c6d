"""Named random streams: every random number is a pure function of a stream's name and a counter.

A stream's name (what it is for, seed, member, …) is hashed to a 64-bit key; the i-th number of the stream is the i-th output
of SplitMix64 started at that key (Steele, Lea and Flood 2014; number 0 mixes the key itself), computed directly, so numbers
can be drawn in any order, in any grouping, on any device, and come out the same to the bit. Nothing here or above reads a
global generator.
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

_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def signed(value: int) -> int:
    """Reinterpret an unsigned 64-bit integer as two's complement, the only 64-bit integer torch computes with."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def key(*name: Part) -> int:
    """Return the stream's 64-bit key: the first eight bytes of sha256 over the canonical JSON of its name."""
    digest = hashlib.sha256(json.dumps(name, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def bits(stream: int | torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Return 64 random bits for every counter.

    `stream` is a key (or an int64 tensor of keys that broadcasts against `counters`, int64 of any shape); the result has
    the broadcast shape, int64, on the counters' device. Integer arithmetic only: equal on every device.
    """
    z = counters * signed(_GOLDEN) + (signed(stream) if isinstance(stream, int) else stream)
    z = (z ^ _shift_right(z, 30)) * signed(_MIX1)
    z = (z ^ _shift_right(z, 27)) * signed(_MIX2)
    return z ^ _shift_right(z, 31)


def uniform(stream: int | torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """Return float32 numbers in [0, 1), the top 24 of each counter's bits, in the shape of `bits`."""
    import torch

    return _shift_right(bits(stream, counters), 40).to(torch.float32) * 2.0**-24


def permutation(stream: int, n: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Return a random order of `range(n)`, int64 of shape (n,): the stable argsort of the stream's first n outputs."""
    import torch

    return torch.argsort(bits(stream, torch.arange(n, device=device)), stable=True)


@contextmanager
def seeded(stream: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Seed torch's generators from the stream within the block and give them back untouched afterwards.

    For code that only knows the global generator: initializers and dropout of networks, a plugin's own draws.
    """
    import torch

    device = torch.device(device)
    with _GENERATORS, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream & 0x7FFFFFFFFFFFFFFF)
        yield


@contextmanager
def reseeded(stream: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators from the stream within the block; `generators_restored` around it gives them back.

    `torch.manual_seed` does the same, but where CUDA is not in use it notes who calls: a millisecond, as long as a small step.
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
    """Give torch's generators back as they were before the block. Other threads may use them within it."""
    import torch

    with _GENERATORS:
        on_host = torch.get_rng_state()
        on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        with _GENERATORS:
            torch.set_rng_state(on_host)
            if on_device is not None:
                torch.cuda.set_rng_state(on_device, device)


def _shift_right(z: torch.Tensor, n: int) -> torch.Tensor:
    """Logical right shift: torch's own copies the sign bit."""
    return (z >> n) & ((1 << (64 - n)) - 1)
