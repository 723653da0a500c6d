"""Time work on a device in blocks of calls, and say on which device, with which software and clocks."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from ladder import Work


@dataclass(frozen=True)
class Timing:
    """How often work is called: `warm_up` times, then `blocks` times `calls` times. The device is waited for once per block.

    A training loop does not wait for the device after each step either, so the time that launches take is hidden in part.
    """

    blocks: int
    calls: int
    warm_up: int


@dataclass(frozen=True)
class Measurement:
    """How fast work is: median and quartiles over the blocks.

    `milliseconds` are those of one call, `setup_seconds` those of everything before the first timed block: building, capturing,
    compiling, warming up. `operations_per_second` is 0 if operations are not counted. `megabytes` is the most memory that
    was allocated on the device, 0 on the CPU.
    """

    images_per_second: float
    quartiles: tuple[float, float]
    milliseconds: float
    setup_seconds: float
    blocks: int
    calls_per_block: int
    operations_per_second: float
    megabytes: float
    manner: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def measure(make: Callable[[], Work], timing: Timing, device: str) -> Measurement:
    """Make the work, warm up, and time its blocks."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    work = make()
    for _ in range(timing.warm_up):
        work.call()
    synchronize(device)
    setup = time.perf_counter() - began
    seconds = [seconds_of_block(work.call, timing.calls, device) / timing.calls for _ in range(timing.blocks)]
    return measurement(work, seconds, setup, timing, device)


def measurement(work: Work, seconds: list[float], setup: float, timing: Timing, device: str) -> Measurement:
    """Return the summary of blocks; `seconds` are those of one call, a value per block."""
    median = statistics.median(seconds)
    shortest, _, longest = quartiles(seconds)
    megabytes = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    return Measurement(
        images_per_second=work.images / median,
        quartiles=(work.images / longest, work.images / shortest),
        milliseconds=1000 * median,
        setup_seconds=setup,
        blocks=len(seconds),
        calls_per_block=timing.calls,
        operations_per_second=work.operations / median,
        megabytes=megabytes,
        manner=work.manner,
    )


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; a single value three times."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def seconds_of_block(call: Callable[[], object], calls: int, device: str) -> float:
    """Return the seconds of a block of calls: between two events on the device's stream, or of the clock on the CPU."""
    if device != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - began
    begin = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def synchronize(device: str) -> None:
    """Wait for the work that is queued on the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_operations(size: int, device: str) -> float:
    """Return the rate of this device on a bf16 matrix product of this size, in floating-point operations per second."""
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    matrix @ matrix
    synchronize(device)
    seconds = [seconds_of_block(lambda: matrix @ matrix, 5, device) / 5 for _ in range(3)]
    return 2 * size**3 / statistics.median(seconds)


def machine(device: str) -> dict[str, Any]:
    """Return what a figure depends on besides the work: card, software, whether TF32 is on, clock and power."""
    facts: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "tf32": uses_tf32()}
    if device == "cuda":
        facts["device"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["clocks"] = card_state()
    return facts


def uses_tf32() -> dict[str, bool]:
    """Return whether products of matrices and convolutions in float32 are rounded to TF32 on a CUDA device."""
    if hasattr(torch.backends.cudnn, "conv"):  # torch >= 2.9, whose older flags raise if both kinds were set
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
        return {"products": products.fp32_precision == "tf32", "convolutions": convolutions.fp32_precision == "tf32"}
    return {"products": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32}


def card_state() -> str:
    """Return clock, power and temperature as `nvidia-smi` reads them, or why they cannot be read."""
    query = "--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {type(error).__name__}"
    return " ".join(done.stdout.split()) or f"unknown: nvidia-smi ended with {done.returncode}"
