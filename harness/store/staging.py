"""The staging area of a store: processes write there, then rename.

Each process that writes has its own folder, `<host>-<id>/`, and holds the lock `<host>-<id>.lock`
as long as it lives. A folder of this machine whose lock is free was left by a dead process. Locks of
other machines may not be seen here, so their folders must also be untouched for a day. The creation
lock is held while a folder is created or the folders of dead processes are removed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path

import filelock

from harness import files
from harness.errors import StoreError
from harness.store.errors import explained
from harness.store.hosts import host_id, named_by_this_host
from harness.store.layout import Folder, Layout
from harness.store.locks import LockSupport, try_lock

_CREATION_LOCK = "gate.lock"
_STALE_SECONDS = 24 * 3600.0


class StagingArea:
    """This process's folder for unfinished writes.

    It is created on first use and removed when the area is closed or garbage-collected. `timeout`
    is the longest wait for the creation lock, in seconds; other processes hold it briefly.
    """

    def __init__(self, layout: Layout, timeout: float = 60.0) -> None:
        self._root = layout.root
        self._area = layout.folder(Folder.STAGING)
        self._timeout = timeout
        self.locks = LockSupport(self._area / _CREATION_LOCK)
        self._mutex = threading.Lock()
        self._folder: Path | None = None
        self._finalizer: weakref.finalize | None = None

    def new_path(self) -> Path:
        """Return an unused path in this process's folder. Raise `StoreError`."""
        with self._mutex:
            if self._folder is None:
                self._folder = self._create()
            return self._folder / uuid.uuid4().hex

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[int]:
        """Keep other processes from beginning to write within the block.

        Yield the number of other processes that have begun and are alive, as far as locks tell. Raise
        `StoreError` if another process holds the creation lock for longer than the time-out.
        """
        with contextlib.ExitStack() as stack:
            with explained(self._root, "cannot be locked"):
                stack.enter_context(self._creation_lock())
                others = [folder for folder in self._folders() if folder != self._folder]
                alive = 0 if self.locks.problem else sum(map(_is_alive, others))
            yield alive

    def sweep(self) -> None:
        """Remove the folders of dead processes, unless another process is doing so."""
        if self.locks.problem:
            others = [folder for folder in self._folders() if folder != self._folder]
            fresh = self._fresh(others)
            for folder in others:
                if folder not in fresh:
                    _remove_if_possible(folder)
            return
        fresh = self._fresh([folder for folder in self._folders() if not named_by_this_host(folder.name)])
        with try_lock(self._new_creation_lock(0)) as acquired:
            if not acquired:
                return
            for folder in self._folders():
                if folder != self._folder and folder not in fresh:
                    _remove_if_abandoned(folder)

    def _fresh(self, folders: Collection[Path]) -> set[Path]:
        """Return the folders that were changed within a day. Times of the file system are compared, not clocks."""
        fresh = set()
        if folders:
            path = self.new_path()
            files.write_file(path, b"", durable=False)
            now = files.modified(path)
            files.remove(path)
        for folder in folders:
            with contextlib.suppress(OSError):
                if now - files.modified(folder) < _STALE_SECONDS:
                    fresh.add(folder)
        return fresh

    def close(self) -> None:
        """Remove this process's folder; the next path comes from a new one."""
        with self._mutex:
            finalizer = self._finalizer
            self._finalizer = None
            self._folder = None
        if finalizer is not None:
            finalizer()

    def _create(self) -> Path:
        folder = self._area / f"{host_id()}-{uuid.uuid4().hex}"
        lock = None
        with self._creation_lock():
            if not self.locks.problem:
                lock = _lock_of(folder)
                lock.acquire()
            files.make_folder(folder, durable=False)
        self._finalizer = weakref.finalize(self, _remove_and_unlock, folder, lock, os.getpid())
        return folder

    @contextlib.contextmanager
    def _creation_lock(self) -> Iterator[None]:
        if self.locks.problem:
            yield
            return
        with try_lock(self._new_creation_lock(self._timeout)) as acquired:
            if not acquired:
                waited = f"{self._timeout:g} seconds"
                raise StoreError(f"store {self._root}: another process has kept it locked for {waited}; try again")
            yield

    def _new_creation_lock(self, timeout: float) -> filelock.BaseFileLock:
        return filelock.FileLock(self._area / _CREATION_LOCK, timeout=timeout)

    def _folders(self) -> list[Path]:
        """Return the folders of all processes, also those of which only the lock file exists."""
        entries = files.list_folder(self._area)
        return sorted({path.with_suffix("") for path in entries if path.name != _CREATION_LOCK})


def _lock_of(folder: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(folder.with_suffix(".lock"), timeout=0, thread_local=False)


def _is_alive(folder: Path) -> bool:
    """Return whether the process of a folder is alive."""
    with try_lock(_lock_of(folder)) as acquired:
        return not acquired


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder if its process is dead, unless it belongs to another user."""
    with contextlib.suppress(OSError), try_lock(_lock_of(folder)) as abandoned:
        if abandoned:
            _remove(folder)


def _remove_if_possible(folder: Path) -> None:
    """Remove a folder, unless it belongs to another user."""
    with contextlib.suppress(OSError):
        _remove(folder)


def _remove_and_unlock(folder: Path, lock: filelock.BaseFileLock | None, owner: int) -> None:
    """Remove a process's folder and release its lock; do nothing in a fork of that process."""
    if os.getpid() != owner:
        return
    try:
        with contextlib.suppress(OSError):
            _remove(folder)
    finally:
        if lock is not None:
            lock.release()


def _remove(folder: Path) -> None:
    files.remove(folder)
    files.remove(folder.with_suffix(".lock"))
