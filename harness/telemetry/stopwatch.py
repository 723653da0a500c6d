"""Adds up the seconds of a process by what it is doing. Knows nothing of what that is.

    watch = Stopwatch("waiting")
    with watch("training"):
        ...
        with watch("store"):     # the inner phase's seconds are not the outer one's
            ...
    watch.lap()  # {"waiting": 0.2, "training": 3.4, "store": 0.1}

Every second belongs to one phase, so the phases sum up to the time that has passed. Reading the clock takes less than a
microsecond; work on a GPU counts where the process waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.telemetry.events import PhasesMeasured


class Stopwatch:
    """Seconds by phase, from the making of the watch on."""

    def __init__(self, phase: str = "other", now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._phase, self._since = now, phase, now()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the block as a phase, and go on with the one around it afterwards."""
        around = self._phase
        self.turn(phase)
        try:
            yield
        finally:
            self.turn(around)

    def turn(self, phase: str) -> None:
        """Count what follows as a phase."""
        now = self._now()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def lap(self) -> dict[str, float]:
        """Return the seconds since the last lap, or since the making, by phase."""
        self.turn(self._phase)
        lap, self._seconds = self._seconds, {}
        return lap

    def phases(self) -> PhasesMeasured:
        """Return a lap as an event of this process."""
        return PhasesMeasured(seconds=self.lap())
