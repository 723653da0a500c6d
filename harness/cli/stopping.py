"""Stopping on request: the first signal asks, the second insists."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopper:
    """Within its block SIGINT and SIGTERM set a flag that the work looks at after every step; a second one ends the process.

    The store writes aside and renames, so ending at any moment loses nothing that was reported.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopper:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopping(self) -> bool:
        """Say whether a signal has come."""
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM."""
        return 128 + (self._signal or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self._say(b"\nstopped at once; what was saved before stays\n")
            os._exit(128 + number)
        self._signal = number
        self._say(b"\nstopping after this step, and saving; once more to stop at once\n")

    def _say(self, text: bytes) -> None:
        if not self._quiet:
            os.write(sys.stderr.fileno(), text)
