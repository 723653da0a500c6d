"""Several processes that train on one device at the same time, as the workers of a run with `--workers 2` do."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

from ladder import Work
from ladder_timing import Measurement, Timing, measurement, seconds_of_block, synchronize

_READY_SECONDS = 240.0  # to start Python, to capture and to compile


@dataclass(frozen=True)
class _Answer:
    """What a process has measured: seconds per call of each block, and the time at which all processes were ready."""

    images: int
    operations: float
    manner: str
    seconds: list[float]
    ready: float


def measure_together(make: Callable[[], Work], processes: int, timing: Timing, device: str) -> Measurement:
    """Let each process make the work and time its blocks while the others do; return the measurement of all together.

    `make` must be picklable. Raise `RuntimeError` if a process fails or is not ready in time.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    results: Any = context.Queue()
    arguments = (make, timing, device, barrier, results)
    children = [context.Process(target=_measure_blocks, args=arguments, daemon=True) for _ in range(processes)]
    began = time.perf_counter()
    for child in children:
        child.start()
    try:
        answers = [_answer(results) for _ in children]
    finally:
        for child in children:
            child.terminate()
            child.join()
    together = Work(
        call=lambda: None,
        images=sum(answer.images for answer in answers),
        operations=sum(answer.operations for answer in answers),
        manner=answers[0].manner,
    )
    rows = zip(*[answer.seconds for answer in answers], strict=True)
    seconds = [sum(row) / len(row) for row in rows]
    return measurement(together, seconds, answers[0].ready - began, timing, device)


def _answer(results: Any) -> _Answer:
    try:
        answer = results.get(timeout=_READY_SECONDS)
    except queue.Empty:
        raise RuntimeError(f"a process has not answered within {_READY_SECONDS:g} s") from None
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def _measure_blocks(make: Callable[[], Work], timing: Timing, device: str, barrier: Barrier, results: Any) -> None:
    """Time the blocks of one process once all processes are ready; put an answer, or the text of an error, into `results`."""
    try:
        work = make()
        for _ in range(timing.warm_up):
            work.call()
        synchronize(device)
        barrier.wait(_READY_SECONDS)
        ready = time.perf_counter()
        seconds = [seconds_of_block(work.call, timing.calls, device) / timing.calls for _ in range(timing.blocks)]
        results.put(_Answer(work.images, work.operations, work.manner, seconds, ready))
    except BaseException as error:  # the parent must hear of whatever ended the process
        barrier.abort()
        results.put(f"{type(error).__name__}: {error}")
