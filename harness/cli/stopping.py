"""Stopping on request or in time: the first signal asks, the second insists."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from harness.execution.stop_signals import STOP_SIGNALS, WARNINGS


class Stopper:
    """Within its block a stop signal sets a flag that the work looks at after every step; a second one ends the process.

    Only SIGINT, SIGTERM and SIGHUP insist: a scheduler's warning (SIGUSR1, SIGUSR2, SIGXCPU) or a timer (SIGALRM) may come many
    times, and before a SIGTERM. A signal that is ignored when the block begins (`nohup`, a job in the background) stays so.
    An engine's worker is quiet, and not hurried: everybody may signal it, its engine kills it if need be.

    The store writes aside and renames, so ending at any moment loses nothing that was reported.
    """

    def __init__(self, quiet: bool = False, limit: float | None = None) -> None:
        """Stop by itself so long before `limit` seconds have passed that all can be saved: 2 % of them, at least 5 s."""
        self._quiet = quiet
        self._end = None if limit is None else time.monotonic() + limit - min(max(0.02 * limit, 5.0), 60.0, limit / 2)
        self._signal: int | None = None
        self._insisting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        for number in STOP_SIGNALS:
            asked_by_engine = self._quiet and number == signal.SIGTERM
            if asked_by_engine or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed by Python

    def stopping(self) -> bool:
        """Say whether a signal has come, or the time is over."""
        return self._signal is not None or self.time_is_over

    @property
    def time_is_over(self) -> bool:
        """Whether the limit is so close that it is time to save."""
        return self._end is not None and time.monotonic() >= self._end

    def stop(self) -> None:
        """Ask to stop, as SIGTERM does."""
        self._signal = self._signal or signal.SIGTERM

    @property
    def exit_code(self) -> int:
        """128 + the signal's number: 143 after SIGTERM, 129 after SIGHUP; 130 after SIGINT and at the time limit."""
        return 128 + (self._signal or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self._signal is None
        self._signal = self._signal or number
        if self._quiet or (number in WARNINGS and not first):
            return
        if self._insisting:
            self._say(b"\nstopped at once; what was saved before stays\n")
            os._exit(128 + number)
        self._insisting = number not in WARNINGS
        again = b"; once more to stop at once" if self._insisting else b""
        self._say(b"\nstopping after this step, and saving" + again + b"\n")

    def _say(self, text: bytes) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the terminal may be gone, or never have been there
            os.write(sys.stderr.fileno(), text)
