"""Measures the seconds that a process spends in each phase.

    watch = Stopwatch("waiting")
    with watch("training"):
        ...
        with watch("store"):     # its seconds do not count as training
            ...
    watch.lap()  # {"waiting": 0.2, "training": 3.4, "store": 0.1}

At any time one phase is active, so the phases sum to the elapsed time. Reading the clock takes less than a microsecond. Work
on a GPU counts in the phase in which the process waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.telemetry.events import PhasesMeasured


class Stopwatch:
    """Seconds by phase since the watch was created. `phase` is the first phase, `now` returns the time in seconds."""

    def __init__(self, phase: str = "other", now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._phase = phase
        self._since = now()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Switch to a phase within the block, and back to the previous phase afterwards."""
        previous = self._phase
        self.turn(phase)
        try:
            yield
        finally:
            self.turn(previous)

    def turn(self, phase: str) -> None:
        """Switch to a phase."""
        now = self._now()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase = phase
        self._since = now

    def lap(self) -> dict[str, float]:
        """Return the seconds by phase since the last lap, or since the watch was created."""
        self.turn(self._phase)
        lap = self._seconds
        self._seconds = {}
        return lap

    def phases(self) -> PhasesMeasured:
        """Return a lap as an event."""
        return PhasesMeasured(seconds=self.lap())
