"""A fair race of two ways to do one thing: the rounds of both interleave in one process, so that a machine that grows slower
or busier slows both.

Run with `pytest benchmarks/perf --benchmark-timer=time.process_time`; add `--benchmark-json=FILE` to keep the figures. The
duel's figures come from clocks of its own (processor time, or events on the GPU) whatever the timer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from apart import Apart

Work = Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """Seconds an item of both sides (medians over the rounds), and how many times faster ours is: quartiles over the rounds."""

    ours: float
    theirs: float
    lower: float
    ratio: float
    upper: float


class Duel:
    """Calls as `duel(ours, theirs, bar=2.0, items=(128, 16))`: what a call of each side does is given in items.

    A side is a function to be called here, or one `Apart`.
    """

    def __init__(self, benchmark) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        ours: Work,
        theirs: Work,
        *,
        bar: float,
        items: tuple[int, int] = (1, 1),
        rounds: int = 31,
        warmup: int = 3,
        device: str = "cpu",
        seconds: Callable[[Work], float] | None = None,
    ) -> Outcome:
        """Race both sides and store the outcome; fail if the lower quartile of the ratio falls below the bar.

        Set the bar at about 70 % of a ratio that was recorded, or at what is promised if that is less. `seconds` does the work
        and says how long it took: by itself, processor time on the CPU and the time between two events on a GPU.
        """
        seconds = seconds or (_seconds_on_gpu if device == "cuda" else _seconds_on_cpu)
        our_times: list[float] = []
        their_times: list[float] = []
        for side in (ours, theirs) * warmup:
            side()
        self.benchmark.pedantic(
            lambda: our_times.append(seconds(ours) / items[0]),
            setup=lambda: their_times.append(seconds(theirs) / items[1]),
            rounds=rounds,
        )
        outcome = _outcome(our_times, their_times)
        self.benchmark.extra_info.update(
            ours_items_per_second=1 / outcome.ours,
            theirs_items_per_second=1 / outcome.theirs,
            ours_median=outcome.ours,
            theirs_median=outcome.theirs,
            ratio=outcome.ratio,
            ratio_quartiles=[outcome.lower, outcome.upper],
            bar=bar,
            rounds=len(our_times),
            threads=torch.get_num_threads(),
            device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        )
        found = f"ours is {outcome.ratio:.2f} times as fast, lower quartile {outcome.lower:.2f}"
        assert outcome.lower >= bar, f"{found}; wanted at least {bar}"
        return outcome


@pytest.fixture
def duel(benchmark) -> Iterator[Duel]:
    """A race on one thread, so that the processor's time is the time that passes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Duel(benchmark)
    torch.set_num_threads(threads)


def _outcome(ours: list[float], theirs: list[float]) -> Outcome:
    """Compare round with round, then take the quartiles."""
    ratios = [their / our for our, their in zip(ours, theirs)]
    lower, ratio, upper = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Outcome(statistics.median(ours), statistics.median(theirs), lower, ratio, upper)


def _seconds_on_cpu(work: Work) -> float:
    """Processor time: a neighbor's load does not count."""
    if isinstance(work, Apart):
        return work()
    start = time.process_time()
    work()
    return time.process_time() - start


def _seconds_on_gpu(work: Work) -> float:
    """Time between two events on the stream, launches included."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000
