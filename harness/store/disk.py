"""Files and folders, durably: what one of these functions has written is on the disk when it returns, unless it is told that it
need not last. Knows nothing of keys.

Everything that the store writes, moves or removes goes through this room, and here through `os` alone: the tests put a failing
disk in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.errors import StoreError

_ELSEWHERE = "choose another folder with --store"
_MENDS = {
    errno.ENOSPC: "no space left on the device; free some, or move the store and name its place with --store",
    errno.EDQUOT: "the disk quota is used up; free some, or move the store and name its place with --store",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.EACCES: f"permission denied; {_ELSEWHERE}",
    errno.EPERM: f"permission denied; {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is in the way; {_ELSEWHERE}",
    errno.EEXIST: f"a file is in the way; {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"the path is too long for the file system; {_ELSEWHERE}",
    errno.ENOLCK: f"the file system knows no locks; {_ELSEWHERE}",
    errno.ENOENT: "it was moved or removed while in use; name its new place with --store",
    errno.EMFILE: "too many open files; allow more with `ulimit -n`",
    errno.ENFILE: "too many open files on this machine",
}


@contextlib.contextmanager
def explained(root: Path, what: str) -> Iterator[None]:
    """Turn the operating system's errors into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"store {root}: {what}: {_MENDS.get(error.errno or 0, error.strerror or error)}") from error


def write_file(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Write a new file; a file that is there already is an error. Its name lasts once its folder is synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if lasting:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, *, lasting: bool = True) -> None:
    """Make a folder in one that is there, unless it is there."""
    if os.path.isdir(path):
        return
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):  # else another process was faster
            raise
    if lasting:
        sync_folder(path.parent)


def move(source: Path, target: Path, *, lasting: bool = True) -> None:
    """Rename a file or a folder to a name that is free."""
    os.rename(source, target)
    if lasting:
        sync_folder(target.parent)


def replace(source: Path, target: Path, *, lasting: bool = True) -> None:
    """Put a file in another's place, if there is one: a reader sees the old or the new."""
    os.replace(source, target)
    if lasting:
        sync_folder(target.parent)


def remove_empty(path: Path) -> None:
    """Remove a folder unless something is in it."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, as far as it is there; links are not followed."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            return
        with os.scandir(path) as entries:
            inside = [Path(entry.path) for entry in entries]
        for entry in inside:
            remove(entry)
        os.rmdir(path)


def read(path: Path, at_most: int) -> bytes:
    """Return the bytes of a regular file; anything else, or a larger one, is refused before it is read (a pipe would hang)."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > at_most:
            raise OSError(errno.EBADMSG, f"not a file of at most {at_most} bytes")
        return file.read(facts.st_size)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            return os.lstat(path).st_size
        with os.scandir(path) as entries:
            inside = [Path(entry.path) for entry in entries]
    except FileNotFoundError:
        return 0
    return sum(map(size, inside))
