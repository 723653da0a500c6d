"""Processes that share a store: who is at work on it, and on what. The operating system frees every lock when its holder dies.

A process that writes has a place of its own, `aside/<id>/`, held by `aside/<id>.lock` as long as it lives; what is found under
a lock that nobody holds was left by a dead one. No clock is asked. `aside/gate.lock` keeps new places and sweeping apart.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness.errors import StoreError
from harness.store import disk

ROOM = "aside"
_GATE = "gate.lock"
_PATIENCE = 60.0  # seconds to wait at the gate; it is held for the blink of an eye, or while a sweep removes what was left


class Aside:
    """Where this process writes before it renames: made when it is first asked for, gone with the object that asked."""

    def __init__(self, root: Path) -> None:
        self._room = root / ROOM
        self._guard = threading.Lock()
        self._place: Path | None = None
        self._owner = 0

    def path(self) -> Path:
        """Return a path that nobody else uses, in this process's place."""
        with self._guard:
            if self._place is None or self._owner != os.getpid():  # a fork's child takes a place of its own
                self._place, self._owner = self._take(), os.getpid()
        return self._place / uuid.uuid4().hex

    def _take(self) -> Path:
        place = self._room / uuid.uuid4().hex
        with _gate(self._room, _PATIENCE) as open_:
            if not open_:
                root = self._room.parent
                raise StoreError(f"store {root}: another process has kept it shut for {_PATIENCE:g} seconds; try again")
            lock = _lock(place)
            lock.acquire()
            disk.make_folder(place, lasting=False)
        self.leave = weakref.finalize(self, _leave, place, lock, os.getpid())
        return place

    @contextlib.contextmanager
    def shut(self) -> Iterator[int]:
        """Let no process take a place within the block; yield how many others have one."""
        with _gate(self._room, _PATIENCE):
            yield sum(_held(place) for place in _places(self._room) if place != self._place)

    def sweep(self) -> None:
        """Remove what dead processes left; let it be if another process is at it."""
        with _gate(self._room, 0) as open_:
            for place in _places(self._room) if open_ else ():
                if place == self._place and self._owner == os.getpid():
                    continue
                with contextlib.suppress(OSError), _taken(_lock(place)) as dead:  # another user's is left to them
                    if dead:
                        disk.remove(place)
                        disk.remove(place.with_suffix(".lock"))


@contextlib.contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold a lock file within the block; yield False at once if another process holds it.

    It is removed before it is let go: whoever opened it meanwhile holds a lock without a name, which filelock notices.
    """
    with _taken(filelock.FileLock(path, timeout=0)) as mine:
        try:
            yield mine
        finally:
            if mine:
                with contextlib.suppress(OSError):
                    disk.remove(path)


def sweep_leases(room: Path) -> None:
    """Remove the lock files of dead holders."""
    for entry in _inside(room):
        with contextlib.suppress(OSError), lease(entry):
            pass


@contextlib.contextmanager
def _gate(room: Path, patience: float) -> Iterator[bool]:
    with _taken(filelock.FileLock(room / _GATE, timeout=patience)) as mine:
        yield mine


@contextlib.contextmanager
def _taken(lock: filelock.BaseFileLock) -> Iterator[bool]:
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _held(place: Path) -> bool:
    with _taken(_lock(place)) as mine:
        return not mine


def _lock(place: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(place.with_suffix(".lock"), timeout=0, thread_local=False)


def _places(room: Path) -> list[Path]:
    """Return the places there are, living or dead, be it only the folder or only the lock of one."""
    return sorted({entry.with_suffix("") for entry in _inside(room) if entry.name != _GATE})


def _inside(room: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(room) as entries:
        return [Path(entry.path) for entry in entries]
    return []


def _leave(place: Path, lock: filelock.BaseFileLock, owner: int) -> None:
    """Give a place up; a fork's child leaves its parent's alone."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            disk.remove(place)
            disk.remove(place.with_suffix(".lock"))
        lock.release()
