"""The runs that use a store. Where locks do not tell two runs apart, the second one is refused.

RUNS/<host>-<id>         facts of a run as a line of JSON; the run adds an empty line every few seconds
RUNS/<host>-<id>.lock    locked as long as the run lives

Between runs, leases decide who trains what. A second run may rely on them if it sees the lock of the first one. If it gets that
lock, the first run is dead, or its locks are not seen here (on a network file system that gives locks to each machine for
itself). Its file tells which: that of a living run grows. No clocks of machines are compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from harness import files
from harness.errors import StoreError
from harness.store.errors import explained
from harness.store.hosts import host_id, named_by_this_host
from harness.store.layout import Folder, Layout
from harness.store.locks import LockSupport, lock_file, try_lock
from harness.store.writer import StoreWriter
from harness.text import escape_unprintable

BEAT_SECONDS = 5.0
"""Time between two lines that a run adds."""

WATCH_SECONDS = 16.0
"""Time without a new line after which a run is dead."""

_STALE_SECONDS = 600.0  # a file that has not grown for so long is not watched
_POLL_SECONDS = 0.2
_LOCK_SECONDS = 5.0  # for its own new lock, which another run may try at the same time
_MOST_BYTES = 16 * 2**20

Say = Callable[[str], None]
"""Called with a line for the user before some seconds of waiting."""


class RunRegistry:
    """The runs of a store. Methods raise `StoreError`."""

    def __init__(self, layout: Layout, writer: StoreWriter, locks: LockSupport) -> None:
        self._layout = layout
        self._writer = writer
        self._locks = locks

    @contextlib.contextmanager
    def registered(self, place: str, say: Say) -> Iterator[None]:
        """Register a run within the block. `place` says where it writes its results, for messages.

        Raise `StoreError` if another run is alive and its lock is not seen here. This takes some seconds if the lock of a run
        of another machine is free.
        """
        path = self._layout.folder(Folder.RUNS) / f"{host_id()}-{uuid.uuid4().hex}"
        with contextlib.ExitStack() as stack:
            with explained(self._layout.root, "cannot be used"):
                self._writer.make_folders()
                if not self._locks.problem:
                    stack.enter_context(lock_file(_lock_path(path), timeout=_LOCK_SECONDS))
                files.write_file(path, _facts(place), durable=False)
            stack.callback(_remove, path)
            stack.enter_context(_beating(path))
            with explained(self._layout.root, "cannot be used"):
                living = self._unlocked_and_alive(path, say)
            if living:
                raise StoreError(self._refusal(living[0]))
            yield

    def has_unlocked(self) -> bool:
        """Return whether a run is alive whose lock is not seen here."""
        with explained(self._layout.root, "cannot be used"):
            return bool(self._unlocked_and_alive(None, lambda line: None))

    def _unlocked_and_alive(self, own: Path | None, say: Say) -> list[Path]:
        """Return the files of other runs that are alive without holding a lock as seen from here; remove those of dead runs."""
        watched = []
        for path in self._others(own):
            if self._is_locked(path):
                continue
            if self._may_be_alive(path, own):
                watched.append(path)
            else:
                _remove(path)
        if watched:
            say(f"{self._describe(watched[0])} may be using it; waiting up to {WATCH_SECONDS:g} seconds for a sign of life")
        living = _growing(watched)
        for path in watched:
            if path not in living:
                _remove(path)
        return living

    def _others(self, own: Path | None) -> list[Path]:
        entries = files.list_folder(self._layout.folder(Folder.RUNS))
        return sorted({path.with_suffix("") for path in entries} - {own})

    def _is_locked(self, path: Path) -> bool:
        """Return whether the lock of a run is seen here."""
        if self._locks.problem or not files.exists(_lock_path(path)):
            return False
        with try_lock(filelock.FileLock(_lock_path(path), timeout=0)) as acquired:
            return not acquired

    def _may_be_alive(self, path: Path, own: Path | None) -> bool:
        """Return whether a run without a lock may be alive: one of this machine only if locks do not work here."""
        here = named_by_this_host(path.name)
        if here and not (self._locks.problem and _process_exists(_read_facts(path).get("pid"))):
            return False
        try:
            return own is None or files.modified(own) - files.modified(path) < _STALE_SECONDS
        except FileNotFoundError:
            return False

    def _refusal(self, path: Path) -> str:
        reason = self._locks.problem or "its lock is not seen on this machine"
        remedy = "wait until it has ended, name another --store, or mount the file system with locks (docs/clusters.md)"
        return f"{self._describe(path)} is using it, and {reason}; {remedy}"

    def _describe(self, path: Path) -> str:
        facts = _read_facts(path)
        run = f"a run on {facts.get('host')} (process {facts.get('pid')}, since {facts.get('since')}, in {facts.get('place')})"
        return escape_unprintable(f"store {self._layout.root}: {run}")


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _facts(place: str) -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    facts = {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "place": place}
    return json.dumps(facts).encode() + b"\n"


def _read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a run; none if its file cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(files.read_from(path, 0, _MOST_BYTES).split(b"\n")[0])
        if isinstance(facts, dict):
            return facts
    return {}


def _process_exists(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@contextlib.contextmanager
def _beating(path: Path) -> Iterator[None]:
    """Add a line to a file every few seconds within the block."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a disk that is full for a moment
                files.append(path, b"\n")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _growing(paths: Sequence[Path]) -> list[Path]:
    """Return the first of some files that is seen to grow; none if none does for some seconds."""
    lengths = {path: _length(path) for path in paths}
    deadline = time.monotonic() + WATCH_SECONDS
    while any(lengths.values()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        for path in paths:
            length = _length(path)
            if length > lengths[path] > 0:
                return [path]
            lengths[path] = length
    return []


def _length(path: Path) -> int:
    """Return the length of a file, 0 if it is gone. It is opened, so that a network file system tells the present one."""
    try:
        return len(files.read_from(path, 0, _MOST_BYTES))
    except OSError:
        return 0


def _remove(path: Path) -> None:
    """Remove the files of a run, unless they belong to another user."""
    for each in (path, _lock_path(path)):
        with contextlib.suppress(OSError):
            files.remove(each)
