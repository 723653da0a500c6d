"""Locks between processes that share a store.

The operating system releases a lock when its holder dies, so no lock has to expire. Network file systems may refuse locks, or
grant them on each machine for itself; `lock_problem` finds the first, the registry of runs the second.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness import files

try:
    import fcntl
except ImportError:  # Windows, whose locks always work
    fcntl = None  # type: ignore[assignment]

_REFUSALS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_TAKEN = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def try_lock(lock: filelock.BaseFileLock) -> Iterator[bool]:
    """Hold a lock within the block; yield False if it is not free within its time-out."""
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def lock_file(path: Path, timeout: float = 0.0) -> Iterator[bool]:
    """Hold a lock file within the block, then remove it; yield False if another process holds it for `timeout` seconds.

    The file is removed before the lock is released. A process that opened the file in the meantime
    then locks a removed file; filelock notices this.
    """
    with try_lock(filelock.FileLock(path, timeout=timeout, thread_local=False)) as acquired:
        try:
            yield acquired
        finally:
            if acquired:
                with contextlib.suppress(OSError):
                    files.remove(path)


def lock_problem(path: Path) -> str:
    """Return why a lock on a file does not exclude others on this machine, or "". The file is created if it does not exist.

    Two descriptors of a file exclude each other like two processes. Raise `OSError` if the file cannot be opened.
    """
    if fcntl is None:
        return ""
    first = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        second = os.open(path, os.O_RDWR)
        try:
            if _try_descriptor(first) and _try_descriptor(second):
                return "the file system gives one lock to two holders"
        finally:
            os.close(second)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return f"the file system refuses locks ({error.strerror})"
    finally:
        os.close(first)
    return ""


def _try_descriptor(descriptor: int) -> bool:
    """Lock an open file; return False if it is locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


class LockSupport:
    """Whether locks work in a store on this machine. It is tried once, with a file that must be in an existing folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @functools.cached_property
    def problem(self) -> str:
        """Why locks do not work, or "". Raise `OSError`."""
        return lock_problem(self._path)
