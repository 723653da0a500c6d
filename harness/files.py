"""Durable file operations: what these functions write is on the disk when they return, unless they
are told that it need not survive a power cut. Knows nothing of stores, keys and results.

Everything that the project writes and later relies on goes through this module, and here through
`os` alone. That is the seam of the fault tests: they put a failing disk in place of `os`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from harness.errors import UserError

_BINARY = getattr(os, "O_BINARY", 0)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old file or the new one.

    Text becomes UTF-8; what UTF-8 cannot hold (half a surrogate pair, from a file name that is no
    text) is written as its escape. A link is followed, not replaced. A device or a pipe is written
    into. Raise `UserError` if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if os.path.exists(target) and not os.path.isfile(target):
            _write_into(target, data)
            return
        staged = target.with_name(f".{secrets.token_hex(8)}.part")
        write_and_replace(target, data, staged, sync_name=False)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: cannot be written: {reason}; name a file in a folder that can be") from None


def write_and_replace(path: Path, data: bytes, staged: Path, *, sync_data: bool = True, sync_name: bool = True) -> None:
    """Write a file under the free name `staged`, on the same file system, and rename it to `path`.

    A reader sees the old file or the new one. After a power cut, without `sync_name` the old one
    may be back, and without `sync_data` the new one may be empty. Raise `OSError`.
    """
    try:
        write_file(staged, data, durable=sync_data)
        replace(staged, path, durable=sync_name)
    finally:
        with contextlib.suppress(OSError):
            remove(staged)


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a new file; its name is durable once its folder is synced. Raise `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        _write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_into(path: Path, data: bytes) -> None:
    """Write to what is there already."""
    descriptor = os.open(path, os.O_WRONLY | _BINARY)
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        rest = rest[written:]


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, *, durable: bool = True) -> None:
    """Make a folder, unless it exists; its parent must exist."""
    if os.path.isdir(path):
        return
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):  # otherwise another process was faster
            raise
    if durable:
        sync_folder(path.parent)


def move(source: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a file or a folder to a free name."""
    os.rename(source, target)
    if durable:
        sync_folder(target.parent)


def replace(source: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a file to a name that another may have: a reader sees the old file or the new one."""
    os.replace(source, target)
    if durable:
        sync_folder(target.parent)


def remove_empty(path: Path) -> None:
    """Remove a folder unless something is in it."""
    with contextlib.suppress(OSError):
        os.rmdir(path)


def remove(path: Path) -> None:
    """Remove a file, a link (not its target), or a folder with its contents, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
            return
        for entry in _entries(path):
            remove(entry)
        os.rmdir(path)


def read(path: Path, at_most: int) -> bytes:
    """Return the bytes of a regular file of at most so many bytes.

    Anything else is refused before it is read: a pipe would hang, a device would never end. Raise
    `OSError` (`EBADMSG` for what is refused).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > at_most:
            raise OSError(errno.EBADMSG, f"not a file of at most {at_most} bytes")
        return file.read(facts.st_size)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all in a folder; what disappears counts 0."""
    try:
        if os.path.islink(path) or not os.path.isdir(path):
            return os.lstat(path).st_size
        entries = _entries(path)
    except FileNotFoundError:
        return 0
    return sum(map(size, entries))


def exists(path: Path) -> bool:
    """Return whether anything has this name; a link counts, wherever it leads."""
    return os.path.lexists(path)


def list_folder(path: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing if it does not exist or is no folder."""
    try:
        return sorted(_entries(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _entries(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return [Path(entry.path) for entry in entries]
