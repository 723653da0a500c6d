"""What happens in a run: lines in `events.jsonl`, and what observers are shown. Knows no event."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.text import describe_error


class EventLog:
    """Appends events to `events.jsonl` and hands them on to observers; one that fails is named once and left out.

    A log that cannot be written stops no run: what the matter was stays in `trouble`.
    """

    def __init__(self, path: Path, observers: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
        self._file = path.open("ab", buffering=0)  # a line is one write, so that two runs' lines do not mix
        self._torn = not _ends_a_line(path)  # a killed run may have left half a line
        self._observers = dict(observers)
        self._lock = threading.RLock()  # an engine's threads report side by side
        self.trouble = ""

    def __call__(self, event: dict[str, Any]) -> None:
        """Log an event."""
        with self._lock:
            self._log(event)

    def _log(self, event: dict[str, Any]) -> None:
        self._write(json.dumps(event, default=str).encode() + b"\n")
        for name, observer in list(self._observers.items()):
            try:
                observer(dict(event))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # an observer is a plugin: it never stops a run, nor ends an engine's thread
                del self._observers[name]
                self._log({"event": "observer_failed", "time": time.time(), "observer": name, "message": describe_error(error)})

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
