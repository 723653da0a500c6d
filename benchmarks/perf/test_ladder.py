"""Measure each rung of the optimization ladder on a CUDA device.

    pytest benchmarks/perf/test_ladder.py -m gpu --benchmark-json=ladder.json

Results are images per second, and the share of the rate of large matrix products that the same process measures. The set-up
time (capturing, compiling) is recorded with the number of steps after which it pays off. Run `pytest -m gpu tests/training`
first: it tests that captured, compiled and grouped steps compute the same as eager ones. Predictions and results are in
docs/performance.md.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from itertools import chain, repeat

import pytest
import torch
from ladder import RUNGS, Rung, loader, resnet20, vit

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NETWORKS = {
    "resnet20 x4, 32 px": resnet20(4),
    "vit, 32 px": vit(),
    "resnet20 x4, 64 px": resnet20(4, 64, 200),
    "vit, 64 px": vit(64, 200),
}
_eager_seconds: dict[str, float] = {}  # of our eager bf16 step, by network; the gain of captured steps is relative to it


@pytest.fixture(scope="module")
def peak() -> float:
    """The rate of this device on a large bf16 matrix product, in floating-point operations per second."""
    matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * 8192**3 / statistics.median(seconds_of(lambda: matrix @ matrix, 10))


def seconds_of(step: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each call, measured between two events on the device."""
    seconds = []
    for _ in range(rounds):
        begin = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        begin.record()
        step()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return seconds


@gpu
@needs_cuda
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_rung(benchmark, peak: float, rung: Rung, name: str) -> None:
    """Record the median of 50 steps after 10 warm-up steps; nothing is asserted."""
    network = NETWORKS[name]
    began = time.perf_counter()
    step = rung.make(network, "cuda")
    torch.cuda.synchronize()
    setup = time.perf_counter() - began
    seconds_of(step, 10)
    times: list[float] = []
    benchmark.pedantic(lambda: times.extend(seconds_of(step, 1)), rounds=50)
    median = statistics.median(times)
    images = rung.members * network.batch
    if rung.name == "+ bf16, LayerNorm included":
        _eager_seconds[name] = median
    gain = _eager_seconds.get(name, 0.0) - median / rung.members
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name(),
        images_per_second=images / median,
        share_of_peak=network.operations() * images / median / peak,
        peak_teraflops=peak / 1e12,
        setup_seconds=setup,
        steps_until_setup_has_paid=setup / gain if rung.needs_gpu and gain > 0 else None,
        megabytes=torch.cuda.max_memory_allocated() / 2**20,
    )
    torch.cuda.reset_peak_memory_stats()


@gpu
@needs_cuda
@pytest.mark.parametrize("name", ["resnet20 x4, 32 px"])
def test_script_fed_by_a_data_loader(benchmark, name: str) -> None:
    """Record the rate of the plain script with PIL and torchvision in one loader worker per core; nothing is asserted."""
    network = NETWORKS[name]
    workers = len(os.sched_getaffinity(0))
    model = network.plain().to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    batches = chain.from_iterable(repeat(loader(network, workers)))

    def step() -> None:
        images, labels = next(batches)
        optimizer.zero_grad()
        logits = model(images.cuda(non_blocking=True))
        torch.nn.functional.cross_entropy(logits, labels.cuda(non_blocking=True)).backward()
        optimizer.step()
        torch.cuda.synchronize()

    for _ in range(64):
        step()
    times: list[float] = []

    def sixteen_steps() -> None:
        began = time.perf_counter()
        for _ in range(16):
            step()
        times.append((time.perf_counter() - began) / 16)

    benchmark.pedantic(sixteen_steps, rounds=12)
    benchmark.extra_info.update(images_per_second=network.batch / statistics.median(times), workers=workers)
