"""Locks between processes that share a store.

The operating system releases a lock when its holder dies, so no lock has to expire.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from harness import files


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
def lock_file(path: Path) -> Iterator[bool]:
    """Hold a lock file within the block, then remove it; yield False if another process holds it.

    The file is removed before the lock is released. A process that opened the file in the meantime
    then locks a removed file; filelock notices this.
    """
    with try_lock(filelock.FileLock(path, timeout=0, thread_local=False)) as acquired:
        try:
            yield acquired
        finally:
            if acquired:
                with contextlib.suppress(OSError):
                    files.remove(path)
