"""Writes the events of a run to `events.jsonl` and shows them to observers."""

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


def _as_it_is(event: Event) -> Event:
    return event


class EventLog:
    """Appends events to a file and passes them on to observers, by name. `complete` adds what the sender does not know.

    An observer that raises is reported once and gets no more events. A file that cannot be written stops no run: the error
    stays in `trouble`.
    """

    def __init__(self, path: Path, observers: Mapping[str, Observer], complete: Callable[[Event], Event] = _as_it_is) -> None:
        self._file = path.open("ab", buffering=0)  # a line is one write, so that two runs' lines do not mix
        self._torn = not _ends_a_line(path)  # a killed run may have left half a line
        self._observers = dict(observers)
        self._complete = complete
        self._lock = threading.RLock()  # an engine's threads report at the same time
        self.trouble = ""

    def __call__(self, event: Event) -> None:
        """Log an event and show it to the observers."""
        with self._lock:
            self._log(self._complete(event))

    def _log(self, event: Event) -> None:
        self._write(json.dumps(event.to_json(), default=str).encode() + b"\n")
        for name, observer in list(self._observers.items()):
            try:
                observer(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer is a plugin: it never stops a run, nor ends an engine's thread
                del self._observers[name]
                self._log(self._complete(ObserverFailed(observer=name, message=describe_error(error))))

    def _write(self, line: bytes) -> None:
        try:
            whole = b"\n" + line if self._torn else line
            self._torn = self._file.write(whole) != len(whole)
            if self._torn:
                raise OSError(errno.ENOSPC, "no space left on the device")
        except (OSError, ValueError) as error:  # ValueError: closed
            self.trouble = str(getattr(error, "strerror", None) or error)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        return file.read() in (b"", b"\n")
