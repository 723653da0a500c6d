"""Writes the events of a run to `events.jsonl` and sends them to observers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.telemetry.events import Event, ObserverFailed
from harness.text import describe_error

Observer = Callable[[Event], None]


def _unchanged(event: Event) -> Event:
    return event


class EventLog:
    """Appends events to a file and sends them to observers. Safe to call from several threads.

    `complete` adds the fields that the sender of an event does not know. If an observer raises an exception, the exception is
    logged as an event, and the observer gets no more events. If the file cannot be written, the run continues, and `trouble`
    is the error message.
    """

    def __init__(self, path: Path, observers: Mapping[str, Observer], complete: Callable[[Event], Event] = _unchanged) -> None:
        self._file = path.open("ab", buffering=0)  # one write per line, so that lines of two processes do not mix
        self._line_is_partial = not _ends_with_newline(path)  # a killed run may have written half a line
        self._observers = dict(observers)
        self._complete = complete
        self._lock = threading.RLock()  # an engine's threads report at the same time
        self.trouble = ""

    def __call__(self, event: Event) -> None:
        """Log an event and send it to the observers."""
        with self._lock:
            self._log(self._complete(event))

    def _log(self, event: Event) -> None:
        self._write(json.dumps(event.to_json(), default=str).encode() + b"\n")
        for name, observer in list(self._observers.items()):
            try:
                observer(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plugin's exception must not end the run or a thread of the engine
                del self._observers[name]
                self._log(self._complete(ObserverFailed(observer=name, message=describe_error(error))))

    def _write(self, line: bytes) -> None:
        try:
            if self._line_is_partial:
                line = b"\n" + line
            self._line_is_partial = self._file.write(line) != len(line)
            if self._line_is_partial:
                raise OSError(errno.ENOSPC, "no space left on the device")
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self.trouble = str(getattr(error, "strerror", None) or error)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def _ends_with_newline(path: Path) -> bool:
    """Return whether a file ends with a newline or is empty."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read() in (b"", b"\n")
