"""Clean stop of a command: on a signal, or before a time limit. A second signal ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from harness.execution.stop_signals import STOP_SIGNALS, WARNINGS


class Stopper:
    """Context manager in which a stop signal sets a flag. The work checks the flag after every step.

    A second SIGINT, SIGTERM or SIGHUP ends the process at once. A scheduler's warning (SIGUSR1, SIGUSR2, SIGXCPU) or a timer
    (SIGALRM) never does: it may come many times, and before a SIGTERM. A signal that is ignored when the block begins
    (`nohup`, a background job) stays ignored. A `quiet` stopper, that of a worker process, prints nothing and never ends the
    process: its engine kills it if necessary.

    The store writes files under a temporary name and renames them, so an exit at any time loses nothing that was reported.
    """

    def __init__(
        self,
        quiet: bool = False,
        limit: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        end_process: bool = True,
    ) -> None:
        """Stop before `limit` seconds of `clock` have passed, with time left to save: 2 % of the limit.

        The time left is at least 5 s, but at most 60 s and at most half of the limit. Without `end_process` a second signal
        raises `KeyboardInterrupt` instead of ending the process, which may be a notebook's.
        """
        self._end_process = end_process
        self._quiet = quiet
        self._clock = clock
        self._end: float | None = None
        if limit is not None:
            time_to_save = min(max(0.02 * limit, 5.0), 60.0, limit / 2)
            self._end = clock() + limit - time_to_save
        self._signal: int | None = None
        self._ends_at_next = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can handle signals
        for number in STOP_SIGNALS:
            is_sent_by_engine = self._quiet and number == signal.SIGTERM
            if is_sent_by_engine or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is None:  # the previous handler was not installed by Python
                handler = signal.SIG_DFL
            signal.signal(number, handler)

    def stopping(self) -> bool:
        """Return whether a signal has come or the time is over."""
        return self._signal is not None or self.time_is_over

    @property
    def time_is_over(self) -> bool:
        """Whether only the time to save is left."""
        return self._end is not None and self._clock() >= self._end

    def stop(self) -> None:
        """Set the flag, as SIGTERM does."""
        self._signal = self._signal or signal.SIGTERM

    @property
    def signal(self) -> int | None:
        """The number of the first stop signal, if one has come."""
        return self._signal

    @property
    def reason(self) -> str:
        """Why the work stops, for a message."""
        return "interrupted" if self._signal is not None else "time is over"

    @property
    def exit_code(self) -> int:
        """128 + the signal's number: 143 for SIGTERM, 129 for SIGHUP, 130 for SIGINT and for the time limit."""
        return 128 + (self._signal or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first = self._signal is None
        self._signal = self._signal or number
        if self._quiet or (number in WARNINGS and not first):
            return
        if self._ends_at_next:
            self._print(b"\nstopped at once; what was saved before stays\n")
            if not self._end_process:
                raise KeyboardInterrupt
            os._exit(128 + number)
        self._ends_at_next = number not in WARNINGS
        message = b"\nstopping after this step, and saving"
        if self._ends_at_next:
            message += b"; once more to stop at once"
        self._print(message + b"\n")

    def _print(self, text: bytes) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # there may be no terminal
            os.write(sys.stderr.fileno(), text)
