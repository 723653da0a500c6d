"""The fixture `compare`, which measures two implementations of the same work in alternating rounds.

Rounds alternate, so that a machine that becomes slower or busier slows both sides.

Run with `pytest benchmarks/perf --benchmark-timer=time.process_time`; add `--benchmark-json=FILE` to save the figures. The
comparison measures the time itself, whatever the timer of pytest-benchmark.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from side_process import SideProcess

Work = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Seconds per item of both sides (medians over the rounds), and quartiles over the rounds of theirs / ours."""

    ours: float
    theirs: float
    lower: float
    ratio: float
    upper: float


class Comparison:
    """Call as `compare(ours, theirs, bar=2.0, items=(128, 16))`; `items` are the items that one call of each side processes.

    A side is a function that runs in this process, or a `SideProcess`.
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
        seconds: Callable[[Work], float] | None = None,
    ) -> Result:
        """Measure both sides and store the result; fail if the lower quartile of the ratio is below `bar`.

        Set `bar` to about 70 % of a recorded ratio, or to the promised ratio if that is lower. `seconds` runs a side and
        returns its duration; the default is processor time.
        """
        measure = seconds or _processor_seconds
        our_times: list[float] = []
        their_times: list[float] = []
        for side in (ours, theirs) * warmup:
            side()
        self.benchmark.pedantic(
            lambda: our_times.append(measure(ours) / items[0]),
            setup=lambda: their_times.append(measure(theirs) / items[1]),
            rounds=rounds,
        )
        result = _result(our_times, their_times)
        self.benchmark.extra_info.update(
            ours_items_per_second=1 / result.ours,
            theirs_items_per_second=1 / result.theirs,
            ours_median=result.ours,
            theirs_median=result.theirs,
            ratio=result.ratio,
            ratio_quartiles=[result.lower, result.upper],
            bar=bar,
            rounds=len(our_times),
            threads=torch.get_num_threads(),
            device="cpu",
        )
        summary = f"ours is {result.ratio:.2f} times as fast, lower quartile {result.lower:.2f}"
        assert result.lower >= bar, f"{summary}; expected at least {bar}"
        return result


@pytest.fixture
def compare(benchmark) -> Iterator[Comparison]:
    """A comparison on one thread, where processor time equals wall time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Comparison(benchmark)
    torch.set_num_threads(threads)


def _result(ours: list[float], theirs: list[float]) -> Result:
    """Divide the times round by round, then take the quartiles of the ratios."""
    ratios = [their_time / our_time for our_time, their_time in zip(ours, theirs)]
    if len(ratios) > 1:
        lower, ratio, upper = statistics.quantiles(ratios, n=4)
    else:
        lower, ratio, upper = ratios * 3
    return Result(statistics.median(ours), statistics.median(theirs), lower, ratio, upper)


def _processor_seconds(work: Work) -> float:
    """Run the work; return its processor time, which other processes on the machine do not add to."""
    if isinstance(work, SideProcess):
        return work()
    start = time.process_time()
    work()
    return time.process_time() - start
