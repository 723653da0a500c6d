"""Messages between a run and a worker through a folder that both see, such as one on a network file system.

FOLDER/heartbeat           the run adds a line every few seconds
FOLDER/<worker>/orders     run → worker, lines of JSON: a list of keys (a group of tasks), "finish", or "stop"
FOLDER/<worker>/messages   worker → run, the lines of `harness worker --json`

Each file has one writer, which appends to it, and one reader, which opens it again to see more: a network file system may
show a new name late, but shows new content of a file that is opened. All files exist before the worker starts. No clocks are
compared, and no locks are used.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import Interrupted, UserError
from harness.execution.stopping import Stopper
from harness.execution.worker_messages import Message, parse_message

HEARTBEAT_SECONDS = 5.0
"""Time between two lines of the run's heartbeat."""

_SHORTEST_POLL, _LONGEST_POLL = 0.02, 0.5  # seconds; the time between two looks into a file doubles while nothing is new
_MOST_BYTES = 16 * 2**20  # read at once
_GRACE_SECONDS = 60.0  # time to save running trainings after the run has gone


class LineReader:
    """Reads the lines that another process appends to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[bytes]:
        """Return the complete lines that are new. A file that cannot be read at the moment has none."""
        try:
            data = files.read_from(self._path, self._offset, _MOST_BYTES)
        except OSError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return data[:end].split(b"\n")[:-1]


class Pause:
    """Waits between two looks: the shorter, the more recently there was something new."""

    def __init__(self) -> None:
        self._seconds = _SHORTEST_POLL

    def after(self, something_new: bool) -> float:
        """Return how many seconds to wait after a look."""
        self._seconds = _SHORTEST_POLL if something_new else min(2 * self._seconds, _LONGEST_POLL)
        return self._seconds


class Heartbeat:
    """The run's sign of life in a folder of mailboxes, which a thread gives until `close`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "heartbeat"
        self._ended = threading.Event()
        files.write_file(self._path, b"\n", durable=False)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a disk that is full for a moment
                files.append(self._path, b"\n")


class Mailbox:
    """The run's side of one worker's mailbox. Creating it creates the folder; raise `OSError` if that fails."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder, durable=False)
        self.folder = folder
        self._orders = folder / "orders"
        files.write_file(self._orders, b"", durable=False)
        files.write_file(folder / "messages", b"", durable=False)
        self._reader = LineReader(folder / "messages")

    def send(self, keys: Sequence[str]) -> None:
        """Give the worker a group of tasks. Raise `UserError` if the folder cannot be written."""
        self._order(list(keys))

    def finish(self) -> None:
        """Ask the worker to exit after its tasks."""
        self._order_if_possible("finish")

    def stop(self) -> None:
        """Ask the worker to save the state of its trainings and exit."""
        self._order_if_possible("stop")

    def receive(self) -> list[Message]:
        """Return the worker's new messages."""
        found = []
        for line in self._reader.read():
            message = parse_message(line)
            if message is not None:
                found.append(message)
        return found

    def _order_if_possible(self, order: str) -> None:
        """Send an order that the worker also obeys, later, when the heartbeat ends."""
        with contextlib.suppress(UserError):
            self._order(order)

    def _order(self, order: list[str] | str) -> None:
        try:
            files.append(self._orders, json.dumps(order).encode() + b"\n")
        except OSError as error:
            raise UserError(f"{self._orders}: cannot be written: {error.strerror or error}") from None


class WorkerMailbox:
    """A worker's side of its mailbox. A thread reads the orders; it stops the worker when the run has gone.

    Raise `UserError` if there is no such mailbox, or if a worker has used it before: the run has given its tasks to another.
    """

    def __init__(self, folder: Path, stopper: Stopper, run_timeout: float) -> None:
        self._stopper = stopper
        self.folder = folder
        self._messages = folder / "messages"
        self._groups: queue.Queue[list[str] | None] = queue.Queue()
        self._orders = LineReader(folder / "orders")
        self._heartbeat = LineReader(folder.parent / "heartbeat")
        self._run_timeout = run_timeout
        self._line_is_partial = False
        try:
            used = files.read_from(self._messages, 0, 1)
        except OSError as error:
            raise UserError(f"{folder}: no mailbox of a run: {error.strerror or error}") from None
        if used:
            raise UserError(f"{folder}: another worker has used this mailbox; the run has given its tasks to others")
        threading.Thread(target=self._watch, daemon=True).start()

    def write(self, line: str) -> None:
        """Send a line. Raise `OSError` if the folder cannot be written."""
        start = b"\n" if self._line_is_partial else b""
        self._line_is_partial = True
        files.append(self._messages, start + line.encode() + b"\n")
        self._line_is_partial = False

    def groups(self) -> Iterator[list[str]]:
        """Yield the groups of keys that the run sends, until it needs no more; raise `Interrupted` to stop the worker."""
        while True:
            if self._stopper.stopping():
                raise Interrupted
            with contextlib.suppress(queue.Empty):
                group = self._groups.get(timeout=0.1)
                if group is None:
                    return
                yield group

    def _watch(self) -> None:
        """Read orders until the worker must stop; then end the process after a grace period, since a plugin may hang."""
        pause = Pause()
        last_beat = time.monotonic()
        while time.monotonic() - last_beat < self._run_timeout:
            if self._heartbeat.read():
                last_beat = time.monotonic()
            orders = [_parse(line) for line in self._orders.read()]
            for order in orders:
                if isinstance(order, list):
                    self._groups.put([str(key) for key in order])
                elif order == "finish":
                    self._groups.put(None)
            if "stop" in orders:
                break
            time.sleep(pause.after(bool(orders)))
        self._stopper.stop()
        time.sleep(_GRACE_SECONDS)
        os._exit(self._stopper.exit_code)


def _parse(line: bytes) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return None
